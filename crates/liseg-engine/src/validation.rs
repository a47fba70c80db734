//! Whole-volume Dice of cases kept back.

use crate::Result;
use crate::predict::{SlidingWindow, Tta};
use liseg_data::StoredCase;
use liseg_ssl::Strategy;
use ndarray::Axis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The mean Dice over `cases` of every candidate of a strategy, by name; the first is what predicts.
///
/// Measured on the network's grid against the resampled label, foreground of all classes together;
/// a case where both are empty counts as 1. The scores choose weights; results to report come from
/// `evaluate`, on the files' own grids.
pub(crate) fn validate(
    strategy: &dyn Strategy,
    cases: &[Arc<StoredCase>],
    patch: [usize; 3],
) -> Result<Vec<(String, f64)>> {
    let window = SlidingWindow::new(patch, 0.5, Tta::None)?;
    let mut scores = Vec::new();
    for candidate in strategy.candidates() {
        let mut sum = 0.0;
        let mut counted = 0;
        for case in cases {
            let Some(label) = case.label() else { continue };
            let logits = window.predict(&candidate.networks, case.image().view(), &mut || true)?;
            let Some(logits) = logits else { continue };
            let mut counts = [0u64; 3]; // both, predicted, labelled
            let voxels = logits.lanes(Axis(0));
            for (lane, &label) in voxels.into_iter().zip(&label) {
                let background = lane[0];
                let predicted = lane.iter().skip(1).any(|&l| l > background);
                let labelled = label > 0;
                counts[0] += u64::from(predicted && labelled);
                counts[1] += u64::from(predicted);
                counts[2] += u64::from(labelled);
            }
            let [both, predicted, labelled] = counts.map(|c| c as f64);
            let total = predicted + labelled;
            sum += if total == 0.0 {
                1.0
            } else {
                2.0 * both / total
            };
            counted += 1;
        }
        if counted > 0 {
            scores.push((candidate.name, sum / f64::from(counted)));
        }
    }
    Ok(scores)
}

/// The scores by name, for the log.
pub(crate) fn by_name(scores: &[(String, f64)]) -> BTreeMap<String, f64> {
    scores.iter().cloned().collect()
}
