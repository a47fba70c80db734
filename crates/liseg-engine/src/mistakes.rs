//! Maps of probability against references, by folder: what a network has wrong, and how sure it is of it.

use crate::evaluate::Masks;
use crate::{Error, Result};
use liseg_data::{bytes_of_voxels, check_voxels, side_by_side};
use liseg_metrics::Mistakes;
use liseg_mri::nifti::{read_header, read_image, read_labels};
use liseg_volume::{LabelMap, Volume};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whose mistakes are looked at, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct MistakesSettings {
    /// Folder of maps named `<case>_probability_<label>.nii.gz`, as prediction writes them.
    pub probabilities: PathBuf,
    /// Such folders of other networks, to count the mistakes that both make.
    pub others: Vec<PathBuf>,
    /// Folder of reference masks; every one of them counts.
    pub references: PathBuf,
    /// The label to judge.
    pub label: u8,
    /// The confidence from which on a network is sure, 0.5..=1.
    pub threshold: f64,
}

/// The mistakes in one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseMistakes {
    /// The case: its reference's name without ending.
    pub case: String,
    /// What is wrong.
    #[serde(flatten)]
    pub mistakes: Mistakes,
    /// For each other network, how many of these voxels it has wrong too.
    pub shared: Vec<u64>,
}

/// The mistakes in all cases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MistakesReport {
    /// The cases, by name.
    pub cases: Vec<CaseMistakes>,
    /// Cases that were not judged, and why.
    pub missing: BTreeMap<String, String>,
}

impl MistakesReport {
    /// All cases together, voxel by voxel.
    pub fn total(&self) -> CaseMistakes {
        let others = self.cases.first().map_or(0, |case| case.shared.len());
        let shared = |other: usize| {
            self.cases
                .iter()
                .filter_map(|case| case.shared.get(other))
                .sum()
        };
        CaseMistakes {
            case: "all".into(),
            mistakes: self.cases.iter().map(|case| case.mistakes).sum(),
            shared: (0..others).map(shared).collect(),
        }
    }
}

/// Counts the mistakes in every case that has a reference. A case without a map, or with one that
/// cannot be judged, is reported as missing.
///
/// `on_case` hears the number of cases done and their total.
///
/// # Errors
/// When a folder cannot be read, no case has a map, or a reference or the threshold is unusable.
pub fn mistakes(
    what: &MistakesSettings,
    on_case: &(dyn Fn(usize, usize) + Sync),
) -> Result<MistakesReport> {
    let references = Masks::of(&what.references)?;
    let networks = std::iter::once(&what.probabilities).chain(&what.others);
    let networks = networks
        .map(|folder| Ok((folder.as_path(), Masks::of(folder)?)))
        .collect::<Result<Vec<_>>>()?;
    let done = std::sync::atomic::AtomicUsize::new(0);
    let cases: Vec<&str> = references.cases().collect();
    let bytes = |case: &&str| {
        let of_voxel = 4 * networks.len() as u64 + 1;
        let reference = references.get(case);
        reference.map_or(0, |file| bytes_of_voxels(file, of_voxel))
    };
    let judged: Vec<Result<CaseMistakes, String>> = side_by_side(&cases, bytes, |case| {
        let reference = references.get(case);
        let judged = reference.and_then(|reference| judge(case, reference, &networks, what));
        let count = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        on_case(count, cases.len());
        judged
    });
    let mut report = MistakesReport::default();
    for (case, judged) in cases.into_iter().zip(judged) {
        match judged {
            Ok(judged) => report.cases.push(judged),
            Err(why) => {
                report.missing.insert(case.to_owned(), why);
            }
        }
    }
    if report.cases.is_empty() {
        let reason = report.missing.pop_first().map_or_else(
            || {
                format!(
                    "no .nii or .nii.gz mask in {} to judge by",
                    what.references.display()
                )
            },
            |(case, why)| format!("nothing to judge; {case}: {why}"),
        );
        return Err(Error::Run {
            path: what.probabilities.clone(),
            reason,
        });
    }
    Ok(report)
}

/// The mistakes of the first network, or why they cannot be told.
fn judge(
    case: &str,
    reference: &Path,
    networks: &[(&Path, Masks)],
    what: &MistakesSettings,
) -> Result<CaseMistakes, String> {
    check(reference, 1)?;
    let truth = read_labels(reference).map_err(|error| error.to_string())?;
    let truth = truth.volume;
    let name = format!("{case}_probability_{}", what.label);
    let mut maps = networks
        .iter()
        .map(|(folder, files)| read_map(folder, files, &name));
    count(case, &mut maps, &truth, what)
}

fn count(
    case: &str,
    maps: &mut dyn Iterator<Item = Result<(&Path, Volume<f32>), String>>,
    truth: &LabelMap,
    what: &MistakesSettings,
) -> Result<CaseMistakes, String> {
    let (file, own) = maps.next().unwrap_or(Err("no folder of maps".into()))?;
    let of_file = |file: &Path, error| format!("{}: {error}", file.display());
    let mistakes = Mistakes::of(&own, truth, what.label, what.threshold);
    let mistakes = mistakes.map_err(|error| of_file(file, error))?;
    let mut shared = Vec::new();
    for other in maps {
        let (file, other) = other?;
        let both = Mistakes::shared(&own, &other, truth, what.label);
        shared.push(both.map_err(|error| of_file(file, error))?);
    }
    Ok(CaseMistakes {
        case: case.to_owned(),
        mistakes,
        shared,
    })
}

fn read_map<'a>(
    folder: &Path,
    files: &'a Masks,
    name: &str,
) -> Result<(&'a Path, Volume<f32>), String> {
    if files.name_of(name).is_none() {
        let folder = folder.display();
        return Err(format!(
            "no {name}.nii.gz in {folder}; `liseg predict --probabilities` writes it"
        ));
    }
    let file = files.get(name)?;
    check(file, 4)?;
    let map = read_image(file).map_err(|error| error.to_string())?;
    Ok((file, map.volume))
}

/// Refuses a file whose voxels, at so many bytes, do not fit into memory.
fn check(file: &Path, bytes: u64) -> Result<(), String> {
    let header = read_header(file).map_err(|error| error.to_string())?;
    check_voxels(file, &header, bytes).map_err(|error| error.to_string())
}
