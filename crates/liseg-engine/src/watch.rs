//! Watches the epochs of a run for trouble.

use liseg_ssl::Sentinel;
use std::collections::BTreeMap;

/// What every run is watched for, whatever its strategy: a predictor that finds nothing in the cases
/// kept back.
const EMPTY_PREDICTION: &str = "no foreground voxel of the cases kept back was found; train longer, \
     raise training.learning_rate, or check labels and normalization";

/// Counts troubled epochs in a row; returns what has to be said now.
///
/// `counts` is kept with the run, so that a resumed one says the same. A sentinel whose quantity was
/// not logged sees nothing. Each trouble is said once, when its epochs are full, and again after it
/// has been gone.
pub(crate) fn watch(
    sentinels: &[Sentinel],
    terms: &BTreeMap<String, f64>,
    validation: Option<f64>,
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
    if let Some(dice) = validation {
        let key = "validation".to_owned();
        if dice > 0.0 {
            counts.remove(&key);
        } else {
            let count = counts.entry(key).or_insert(0);
            *count += 1;
            if *count == 1 {
                said.push(EMPTY_PREDICTION.to_owned());
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
        let mut said = |dice| watch(&[], &epoch(0.1), Some(dice), &mut counts).len();
        assert_eq!([said(0.0), said(0.0), said(0.5), said(0.0)], [1, 0, 0, 1]);
    }
}
