//! Scores of cases, one small file each and all in a table.

use super::uncertainty::UncertaintyScores;
use crate::run::write_file;
use crate::{Error, Result};
use liseg_file::text::field;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Folder of the small files, below the masks. Each case writes its own, so that machines that share a
/// cohort, and runs that were killed, leave nothing half done; the table is made from all of them.
const FOLDER: &str = ".scores";

/// The table.
const TABLE: &str = "uncertainty.csv";

#[derive(Debug, Serialize, Deserialize)]
struct Scored {
    case: String,
    foreground_ml: f64,
    #[serde(flatten)]
    scores: UncertaintyScores,
}

/// Where the scores of a case go: at the mask's own place below the folder, so that no two cases share
/// a file.
pub(super) fn score_file(name: &Path, output: &Path) -> PathBuf {
    let mut file = output.join(FOLDER).join(name).into_os_string();
    file.push(".json");
    file.into()
}

/// Writes the scores of a case.
pub(super) fn write_scores(
    name: &Path,
    output: &Path,
    foreground_ml: f64,
    scores: UncertaintyScores,
) -> Result<()> {
    let file = score_file(name, output);
    let folder = file.parent().unwrap_or(output);
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let scored = Scored {
        case: name.display().to_string(),
        foreground_ml,
        scores,
    };
    let text = serde_json::to_vec(&scored).map_err(|e| Error::Io {
        path: file.clone(),
        source: e.into(),
    })?;
    write_file(&file, &text)
}

/// The scores of all cases so far.
fn read_scores(folder: &Path) -> Result<Vec<Scored>> {
    let mut cases = BTreeMap::new();
    for entry in WalkDir::new(folder) {
        let entry = entry.map_err(|e| Error::Io {
            path: folder.to_owned(),
            source: e.into(),
        })?;
        let path = entry.path();
        // Temporary files of other processes have no such ending.
        if !entry.file_type().is_file() || path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = liseg_file::read_text(path).map_err(Error::io(path))?;
        let scored: Scored = serde_json::from_str(&text).map_err(|e| Error::Run {
            path: path.to_owned(),
            reason: format!("no scores of a case ({e}); delete it and predict the case again"),
        })?;
        cases.insert(scored.case.clone(), scored);
    }
    Ok(cases.into_values().collect())
}

/// Writes the table of all cases so far, the most doubtful first.
pub(super) fn write_csv(output: &Path) -> Result<()> {
    let folder = output.join(FOLDER);
    if !folder.is_dir() {
        return Ok(());
    }
    let mut cases = read_scores(&folder)?;
    let doubt = |c: &Scored| c.scores.disagreement.unwrap_or(c.scores.entropy);
    cases.sort_by(|a, b| {
        doubt(b)
            .total_cmp(&doubt(a))
            .then_with(|| a.case.cmp(&b.case))
    });
    let mut table = String::from("case,foreground_ml,entropy,disagreement\n");
    for case in &cases {
        let name = field(&case.case);
        let disagreement = case
            .scores
            .disagreement
            .map_or(String::new(), |d| format!("{d:.6}"));
        table += &format!(
            "{name},{:.3},{:.6},{disagreement}\n",
            case.foreground_ml, case.scores.entropy
        );
    }
    write_file(&output.join(TABLE), table.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_doubtful_case_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        write_csv(output).unwrap();
        assert!(!output.join(TABLE).exists());
        let scores = |entropy, disagreement| UncertaintyScores {
            entropy,
            disagreement,
        };
        write_scores(Path::new("b/T2"), output, 1200.0, scores(0.1, Some(0.02))).unwrap();
        write_scores(Path::new("a,1"), output, 0.0, scores(0.0, Some(0.4))).unwrap();
        write_scores(Path::new("b/T2"), output, 1300.0, scores(0.2, Some(0.03))).unwrap();
        write_scores(Path::new("=1+1"), output, 1.0, scores(0.1, Some(0.01))).unwrap();
        write_csv(output).unwrap();
        let table = std::fs::read_to_string(output.join(TABLE)).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "\"a,1\",0.000,0.000000,0.400000");
        let formula = "'=1+1,1.000,0.100000,0.010000";
        assert_eq!(lines[2..], ["b/T2,1300.000,0.200000,0.030000", formula]);
    }
}
