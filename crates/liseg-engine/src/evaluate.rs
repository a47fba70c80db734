//! Predictions against references, by folder.

mod judge;
mod masks;

pub(crate) use masks::Masks;

use crate::{Error, Result};
use judge::{Judged, Pair};
use liseg_data::{bytes_of_voxels, side_by_side};
use liseg_metrics::{Report, Settings};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes for every voxel of a case that is judged: both masks, turned, and distances where surfaces are dense.
const JUDGING_BYTES: u64 = 16;

/// What a folder of predictions is compared with, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Folder of predicted masks.
    pub predictions: PathBuf,
    /// Folder of reference masks; every one of them counts.
    pub references: PathBuf,
    /// A `cases.json` that says which patient, phase, vendor, distribution and so on a case belongs
    /// to.
    pub cases: Option<PathBuf>,
    /// Labels to judge; every foreground label that the references hold when empty.
    pub labels: Vec<u8>,
    /// How to measure.
    pub settings: Settings,
}

/// The facts of one case in `cases.json`; each that is text, such as `patient`, `phase`, `vendor` or
/// `distribution`, is a kind of group.
#[derive(Debug, Clone, Deserialize)]
struct CaseFacts {
    id: String,
    #[serde(flatten)]
    facts: BTreeMap<String, serde_json::Value>,
}

/// Judges every reference. A reference without a prediction, or with one that cannot be judged, is
/// reported as missing and scores as an empty prediction would; a reference that cannot be read, or that is empty
/// against the policy, is reported as missing without values. None is dropped and none ends the others.
///
/// A prediction that is stored along other axes of the same grid is turned first. [`Report::notes`] names predictions
/// that belong to no reference and labels that no reference has.
///
/// `on_case` hears the number of cases done and their total.
///
/// # Errors
/// When a folder or the file of groups cannot be read, or there is no reference.
pub fn evaluate(what: &Evaluation, on_case: &(dyn Fn(usize, usize) + Sync)) -> Result<Report> {
    let predictions = Masks::of(&what.predictions)?;
    let references = Masks::of(&what.references)?;
    let cases: Vec<&str> = references.cases().collect();
    if cases.is_empty() {
        let reason = "no .nii or .nii.gz mask here to judge by".into();
        return Err(Error::Run {
            path: what.references.clone(),
            reason,
        });
    }
    let groups = match &what.cases {
        Some(path) => read_groups(path)?,
        None => BTreeMap::new(),
    };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let bytes = |case: &&str| {
        let reference = references.get(case);
        reference.map_or(0, |file| bytes_of_voxels(file, JUDGING_BYTES))
    };
    let judged: Vec<Judged> = side_by_side(&cases, bytes, |case| {
        let reference = references.get(case);
        let name = reference.as_deref().map(|path| path.display().to_string());
        let pair = Pair {
            prediction: predictions.get(name_of(&predictions, &references, case).unwrap_or(case)),
            name: name.unwrap_or_else(|_| what.references.join(case).display().to_string()),
            group: groups.get(*case).cloned().unwrap_or_default(),
            reference,
        };
        let judged = pair.judge(what);
        let count = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        on_case(count, cases.len());
        judged
    });
    let mut report = Report {
        settings: what.settings,
        notes: notes_on_names(&predictions, &references),
        ..Report::default()
    };
    for case in judged {
        match case {
            Judged::Scored(case, note) => {
                report.cases.push(case);
                report.notes.extend(note);
            }
            Judged::Missing(case) => report.missing.push(case),
        }
    }
    Ok(report)
}

/// The name of a case's prediction: its own, or one that differs in the case of letters alone and is no other reference's.
fn name_of<'a>(predictions: &'a Masks, references: &Masks, case: &str) -> Option<&'a str> {
    let found = predictions.name_of(case)?;
    let is_others = found != case && references.has(found);
    (!is_others).then_some(found)
}

/// Predictions under other names than the references, and those of no reference.
fn notes_on_names(predictions: &Masks, references: &Masks) -> Vec<String> {
    let taken: BTreeMap<&str, &str> = references
        .cases()
        .filter_map(|case| Some((name_of(predictions, references, case)?, case)))
        .collect();
    let other = taken.iter().filter(|(name, case)| name != case);
    let mut notes: Vec<String> = other
        .map(|(name, case)| format!("`{name}` is taken as the prediction of `{case}`"))
        .collect();
    let strays: Vec<&str> = predictions
        .cases()
        .filter(|name| !taken.contains_key(name))
        .collect();
    if !strays.is_empty() {
        let named = strays.iter().take(10).copied().collect::<Vec<_>>();
        let more = match strays.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        notes.push(format!(
            "predictions of no reference, {}: {}{more}",
            strays.len(),
            named.join(", ")
        ));
    }
    notes
}

fn read_groups(path: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let text = liseg_file::read_text(path).map_err(Error::io(path))?;
    let cases: Vec<CaseFacts> = serde_json::from_str(&text).map_err(|e| Error::Run {
        path: path.to_owned(),
        reason: format!("expected a list of objects with `id`, `phase`, `vendor`: {e}"),
    })?;
    let groups = cases.into_iter().map(|case| {
        let facts = case.facts.into_iter();
        let group = facts.filter_map(|(kind, name)| Some((kind, name.as_str()?.to_owned())));
        (case.id, group.collect())
    });
    Ok(groups.collect())
}
