//! One prediction against one reference.

use super::Evaluation;
use liseg_data::check_voxels;
use liseg_metrics::{
    CaseMetrics, CaseResult, Error, LabelMetrics, Measure, MissingCase, evaluate_case, missing_case,
};
use liseg_mri::nifti::{read_header, read_labels};
use liseg_volume::LabelMap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes for every voxel of a mask that is read, turned and compared with another one.
const MASK_BYTES: u64 = 3;

/// What became of a case.
pub(super) enum Judged {
    /// With a note where the prediction holds labels that nobody asked for.
    Scored(CaseResult, Option<String>),
    Missing(MissingCase),
}

/// The files of a case, or why one is none.
pub(super) struct Pair<'a> {
    pub(super) reference: std::result::Result<&'a Path, String>,
    pub(super) prediction: std::result::Result<&'a Path, String>,
    /// Stands for the reference where there is no file.
    pub(super) name: String,
    pub(super) group: BTreeMap<String, String>,
}

impl Pair<'_> {
    pub(super) fn judge(self, what: &Evaluation) -> Judged {
        let truth = self.reference.clone().and_then(read);
        let truth = match truth {
            Ok(truth) => truth,
            Err(reason) => {
                let labels = asked(&what.labels, &BTreeSet::new());
                let nothing = |label: &u8| (label.to_string(), undefined(&reason));
                let metrics = labels.iter().map(nothing).collect();
                return self.missing(format!("the reference: {reason}"), metrics);
            }
        };
        let there = labels_of(&truth);
        let labels = asked(&what.labels, &there);
        let lost = |reason: &str| -> LabelMetrics {
            let worst = |label: u8| missing_case(&truth, label, &what.settings);
            let worst = |label: u8| worst(label).unwrap_or_else(|_| undefined(reason));
            let labels = labels.iter();
            labels.map(|l| (l.to_string(), worst(*l))).collect()
        };
        let (path, predicted) = match self.prediction.clone().and_then(|p| Ok((p, read(p)?))) {
            Ok(read) => read,
            Err(reason) => {
                let metrics = lost(&reason);
                return self.missing(reason, metrics);
            }
        };
        // The same grid may be stored along other axes.
        let predicted = predicted.reorient(truth.orientation());
        let (mut metrics, mut refused) = (LabelMetrics::new(), None);
        for &label in &labels {
            let found = match evaluate_case(&predicted, &truth, label, &what.settings) {
                Ok(found) => found,
                Err(error @ (Error::Shape { .. } | Error::Grid { .. })) => {
                    let reason = format!("{}: {error}", path.display());
                    let metrics = lost(&reason);
                    return self.missing(reason, metrics);
                }
                Err(error) => {
                    let reason = format!("the reference: {}, label {label}: {error}", self.name);
                    undefined(refused.insert(reason))
                }
            };
            metrics.insert(label.to_string(), found);
        }
        if let Some(reason) = refused {
            return self.missing(reason, metrics);
        }
        let extra = surplus(&predicted, &labels, &there);
        let note = extra.map(|extra| format!("{}: {extra}", path.display()));
        let scored = CaseResult {
            prediction_file: path.display().to_string(),
            reference_file: self.name,
            group: self.group,
            metrics,
        };
        Judged::Scored(scored, note)
    }

    fn missing(self, reason: String, metrics: LabelMetrics) -> Judged {
        Judged::Missing(MissingCase {
            reference_file: self.name,
            reason,
            group: self.group,
            metrics,
        })
    }
}

fn read(path: &Path) -> std::result::Result<LabelMap, String> {
    let header = read_header(path).map_err(|error| error.to_string())?;
    check_voxels(path, &header, MASK_BYTES).map_err(|error| error.to_string())?;
    let file = read_labels(path).map_err(|error| error.to_string())?;
    Ok(file.volume)
}

/// The foreground labels that a mask holds.
fn labels_of(mask: &LabelMap) -> BTreeSet<u8> {
    let mut held = [false; 256];
    for &label in mask.data() {
        held[usize::from(label)] = true;
    }
    (1..=u8::MAX).filter(|&l| held[usize::from(l)]).collect()
}

/// The labels to judge: those that were asked for, or those that the reference holds.
fn asked(labels: &[u8], there: &BTreeSet<u8>) -> Vec<u8> {
    match (labels.is_empty(), there.is_empty()) {
        (false, _) => labels.to_vec(),
        (true, true) => vec![1],
        (true, false) => there.iter().copied().collect(),
    }
}

/// Measures without values.
fn undefined(reason: &str) -> CaseMetrics {
    CaseMetrics {
        reasons: Measure::ALL.map(|m| (m, reason.to_owned())).into(),
        ..CaseMetrics::default()
    }
}

/// What a prediction holds beside the labels that are judged and those that its reference holds.
fn surplus(predicted: &LabelMap, judged: &[u8], there: &BTreeSet<u8>) -> Option<String> {
    let held = labels_of(predicted);
    let known = |label: &&u8| judged.contains(label) || there.contains(label);
    let extra: Vec<&u8> = held.iter().filter(|label| !known(label)).collect();
    if extra.is_empty() {
        return None;
    }
    let voxels = predicted
        .data()
        .iter()
        .filter(|v| extra.contains(v))
        .count();
    let names: Vec<String> = extra.iter().map(ToString::to_string).collect();
    let text = format!(
        "holds label {} in {voxels} voxels, which the reference does not have",
        names.join(", ")
    );
    Some(if judged.iter().any(|label| held.contains(label)) {
        text
    } else {
        format!("{text}, and nothing of what is judged: is the foreground numbered otherwise?")
    })
}
