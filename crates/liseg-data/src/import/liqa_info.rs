//! Lists that come with LiQA data: `info.csv`, and splits in the form of `info.json`.

use super::{Remark, RemarkKind, Survey, entries, liqa};
use crate::{Error, Result, json};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How deep lists may lie below the folder that is given.
const DEPTH: usize = 3;

/// A row of `info.csv`.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "Case")]
    case: String,
    #[serde(rename = "Vendor", default)]
    vendor: String,
    #[serde(rename = "Missing Modality", default)]
    missing: Option<String>,
}

/// Compares every `info.csv` with the files; the files decide.
pub(super) fn compare_tables(survey: &mut Survey) -> Result<()> {
    for path in named("info.csv", &survey.folder, DEPTH) {
        let bad = |e: csv::Error| Error::Dataset {
            folder: path.clone(),
            reason: format!("it cannot be read as a table: {e}"),
        };
        let file = liseg_file::open(&path).map_err(Error::io("opening", &path))?;
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(file);
        for row in reader.deserialize() {
            let row: Row = row.map_err(bad)?;
            let remarks = compare(&row, survey);
            let remarks = remarks.into_iter();
            survey
                .remarks
                .extend(remarks.map(|message| Remark::new(RemarkKind::Noted, &path, message)));
        }
    }
    Ok(())
}

/// What a row says other than the files.
fn compare(row: &Row, survey: &Survey) -> Vec<String> {
    let found: Vec<_> = survey
        .cases
        .iter()
        .filter(|case| case.patient.as_deref() == Some(row.case.as_str()))
        .collect();
    let Some(first) = found.first() else {
        return vec![format!("it lists case {}, which has no folder", row.case)];
    };
    let mut odd = Vec::new();
    if !row.vendor.is_empty()
        && !first
            .vendor
            .as_deref()
            .is_some_and(|v| row.vendor.ends_with(v))
    {
        odd.push(format!(
            "it gives case {} the vendor {}",
            row.case, row.vendor
        ));
    }
    let missing = row.missing.as_deref().unwrap_or_default();
    for word in missing
        .split([';', ',', '/', ' ', '|'])
        .filter(|w| !w.is_empty())
    {
        let Some((phase, _)) = liqa::phase(word) else {
            continue;
        };
        if found
            .iter()
            .any(|case| case.phase.as_deref() == Some(phase))
        {
            odd.push(format!(
                "it calls {word} of case {} missing, but there is a file",
                row.case
            ));
        }
    }
    odd
}

/// {group: {vendor: {"Train": [case], "Val": [case]}}}.
type Split = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<String>>>>;

/// Takes the split of an `info.json`, where there is one.
pub(super) fn take_split(survey: &mut Survey) -> Result<()> {
    let Some(path) = named("info.json", &survey.folder, DEPTH).into_iter().next() else {
        return Ok(());
    };
    let split: Split = json::read(&path)?;
    let mut of_case: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, cases) in split.values().flat_map(BTreeMap::values).flatten() {
        let name = match name.to_ascii_lowercase().as_str() {
            "train" | "training" => "train",
            "val" | "valid" | "validation" => "val",
            "test" => "test",
            _ => {
                return Err(Error::Json {
                    path,
                    reason: format!("`{name}` is no split; expected Train, Val or Test"),
                });
            }
        };
        for case in cases {
            if of_case
                .insert(case, name)
                .is_some_and(|other| other != name)
            {
                let reason = format!("case {case} is listed for two splits");
                return Err(Error::Json { path, reason });
            }
        }
    }
    let mut used = BTreeSet::new();
    let mut unlisted = BTreeSet::new();
    for case in &mut survey.cases {
        let patient = case.patient.clone().unwrap_or_default();
        match of_case.get(patient.as_str()) {
            Some(&name) => {
                case.split = Some(name.to_owned());
                used.insert(patient);
            }
            None if case.split.as_deref() == Some("train") => {
                unlisted.insert(patient);
            }
            None => {}
        }
    }
    let mut note = |message: String| {
        survey
            .remarks
            .push(Remark::new(RemarkKind::Noted, &path, message));
    };
    note(format!("its split of {} cases is taken", used.len()));
    for case in of_case.keys().filter(|case| !used.contains(**case)) {
        note(format!("it lists case {case}, which has no folder"));
    }
    for case in unlisted {
        note(format!(
            "it does not list case {case}, which stays in training"
        ));
    }
    Ok(())
}

/// All files of a name in a folder and below.
fn named(name: &str, folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (entry, path) in entries(folder) {
        if path.is_dir() && depth > 0 {
            found.extend(named(name, &path, depth - 1));
        } else if entry == name {
            found.push(path);
        }
    }
    found
}
