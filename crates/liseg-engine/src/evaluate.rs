//! Predictions against references, by folder.

use crate::predict::stem;
use crate::{Error, Result};
use liseg_metrics::{CaseResult, MissingCase, Report, Settings, evaluate_case, missing_case};
use liseg_mri::nifti::read_labels;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
/// reported as missing and scores as an empty prediction would; it is never dropped.
///
/// `on_case` hears the number of cases done and their total.
///
/// # Errors
/// When a folder cannot be read or holds no mask, or a reference itself is unusable.
pub fn evaluate(what: &Evaluation, on_case: &(dyn Fn(usize, usize) + Sync)) -> Result<Report> {
    let predictions = masks(&what.predictions)?;
    let references = masks(&what.references)?;
    if references.is_empty() {
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
    let judged: Vec<Judged> = references
        .par_iter()
        .map(|(id, reference)| {
            let group = groups.get(id).cloned().unwrap_or_default();
            let result = judge(
                predictions.get(id),
                reference,
                &what.labels,
                group,
                &what.settings,
            );
            let count = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            on_case(count, references.len());
            result
        })
        .collect::<Result<_>>()?;
    let mut report = Report {
        settings: what.settings,
        ..Report::default()
    };
    for case in judged {
        match case {
            Judged::Scored(case) => report.cases.push(case),
            Judged::Missing(case) => report.missing.push(case),
        }
    }
    Ok(report)
}

enum Judged {
    Scored(CaseResult),
    Missing(MissingCase),
}

fn judge(
    prediction: Option<&PathBuf>,
    reference: &Path,
    labels: &[u8],
    group: BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Judged> {
    let truth = read_labels(reference)?.volume;
    let labels: Vec<u8> = if labels.is_empty() {
        let found: BTreeSet<u8> = truth.data().iter().copied().filter(|&l| l > 0).collect();
        if found.is_empty() {
            vec![1]
        } else {
            found.into_iter().collect()
        }
    } else {
        labels.to_vec()
    };
    let name = |path: &Path| path.display().to_string();
    let missing = |reason: String, group| -> Result<Judged> {
        let metrics = labels
            .iter()
            .map(|&l| Ok((l.to_string(), missing_case(&truth, l, settings)?)))
            .collect::<Result<_>>()?;
        let reference_file = name(reference);
        Ok(Judged::Missing(MissingCase {
            reference_file,
            reason,
            group,
            metrics,
        }))
    };
    let Some(path) = prediction else {
        return missing("no prediction of that name".into(), group);
    };
    let predicted = match read_labels(path) {
        Ok(file) => file.volume,
        Err(error) => return missing(error.to_string(), group),
    };
    let mut metrics = BTreeMap::new();
    for &label in &labels {
        match evaluate_case(&predicted, &truth, label, settings) {
            Ok(found) => metrics.insert(label.to_string(), found),
            Err(
                error @ (liseg_metrics::Error::Shape { .. } | liseg_metrics::Error::Grid { .. }),
            ) => {
                return missing(format!("{}: {error}", path.display()), group);
            }
            Err(error) => {
                let reason = format!("label {label}: {error}");
                return Err(Error::Run {
                    path: reference.to_owned(),
                    reason,
                });
            }
        };
    }
    let (prediction_file, reference_file) = (name(path), name(reference));
    Ok(Judged::Scored(CaseResult {
        prediction_file,
        reference_file,
        group,
        metrics,
    }))
}

/// The masks of a folder by case, their names without ending.
pub(crate) fn masks(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if let Some(id) = stem(&path).filter(|_| path.is_file()) {
            found.insert(id, path);
        }
    }
    Ok(found)
}

fn read_groups(path: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
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
