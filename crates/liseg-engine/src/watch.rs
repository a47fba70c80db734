//! Watches the epochs of a run for trouble.

use crate::validation::Voxels;
use liseg_ssl::Sentinel;
use std::collections::BTreeMap;

/// What every run is watched for, whatever its strategy: a predictor that finds next to nothing in the cases
/// kept back, or finds it elsewhere.
fn trouble_of_predictions(found: Voxels) -> Option<String> {
    let Voxels {
        both,
        predicted,
        labelled,
    } = found;
    if labelled == 0 {
        return None;
    }
    if predicted < labelled.div_ceil(100) {
        return Some(format!(
            "{predicted} voxels of the cases kept back are predicted to be foreground where {labelled} are; train \
             longer, raise training.learning_rate, or check labels and normalization"
        ));
    }
    (both == 0).then(|| {
        format!(
            "none of the {labelled} foreground voxels of the cases kept back is among the {predicted} that are predicted; \
             check that labels lie on their images, or train longer"
        )
    })
}

/// Counts troubled epochs in a row; returns what has to be said now.
///
/// `counts` is kept with the run, so that a resumed one says the same. A sentinel whose quantity was
/// not logged sees nothing. Each trouble is said once, when its epochs are full, and again after it
/// has been gone.
pub(crate) fn watch(
    sentinels: &[Sentinel],
    terms: &BTreeMap<String, f64>,
    validation: Option<Voxels>,
    counts: &mut BTreeMap<String, u32>,
) -> Vec<String> {
    let mut said = Vec::new();
    for (number, sentinel) in sentinels.iter().enumerate() {
        let key = format!("{number}/{}", sentinel.term);
        match terms.get(sentinel.term) {
            Some(&value) if sentinel.is_troubled(value) => {
                let count = counts.entry(key).or_insert(0);
                *count += 1;
                if *count == sentinel.epochs.max(1) {
                    said.push(format!(
                        "{} is {value:.3e}: {}",
                        sentinel.term, sentinel.message
                    ));
                }
            }
            Some(_) => {
                counts.remove(&key);
            }
            None => {}
        }
    }
    if let Some(voxels) = validation {
        let key = "validation".to_owned();
        match trouble_of_predictions(voxels) {
            None => {
                counts.remove(&key);
            }
            Some(message) => {
                let count = counts.entry(key).or_insert(0);
                *count += 1;
                if *count == 1 {
                    said.push(message);
                }
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("pseudo_foreground".to_owned(), value)])
    }

    #[test]
    fn trouble_is_said_once_when_it_has_lasted() {
        let sentinels = [Sentinel::empty_pseudo_labels()];
        let mut counts = BTreeMap::new();
        let mut said = |value| watch(&sentinels, &epoch(value), None, &mut counts);
        assert!(said(0.0).is_empty());
        let message = said(0.0);
        assert!(message[0].contains("no foreground"), "{message:?}");
        assert!(said(0.0).is_empty());
        assert!(said(0.1).is_empty() && said(0.0).is_empty());
        assert_eq!(said(f64::NAN).len(), 1);
    }

    #[test]
    fn what_is_not_logged_is_not_judged() {
        let sentinels = [Sentinel::no_confidence()];
        assert!(watch(&sentinels, &epoch(0.0), None, &mut BTreeMap::new()).is_empty());
    }

    #[test]
    fn an_empty_prediction_is_said() {
        let mut counts = BTreeMap::new();
        let mut said = |both, predicted| {
            let voxels = Voxels {
                both,
                predicted,
                labelled: 1000,
            };
            watch(&[], &epoch(0.1), Some(voxels), &mut counts)
        };
        assert!(said(0, 0)[0].starts_with("0 voxels of the cases"));
        assert!(said(9, 9).is_empty(), "it was said");
        assert!(said(500, 800).is_empty());
        assert!(said(9, 9)[0].starts_with("9 voxels of the cases"));
        assert!(said(10, 10).is_empty());
        assert!(said(0, 800)[0].contains("none of the 1000"));
        let unlabelled = Voxels::default();
        assert!(watch(&[], &epoch(0.1), Some(unlabelled), &mut BTreeMap::new()).is_empty());
    }
}
