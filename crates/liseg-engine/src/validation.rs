//! Whole-volume Dice of cases kept back.

use crate::Result;
use crate::predict::{SlidingWindow, Tta};
use crate::showcase::{Extremes, Shown};
use liseg_data::StoredCase;
use liseg_ssl::Strategy;
use ndarray::{Array3, Axis};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What validating found.
#[derive(Debug, Default)]
pub(crate) struct Validation {
    /// The mean Dice of every candidate, by name.
    pub(crate) scores: Vec<(String, f64)>,
    /// Voxels of the first candidate in all cases together.
    pub(crate) voxels: Voxels,
    /// The best and the worst case of the first candidate.
    pub(crate) extremes: Extremes,
}

/// How many voxels are foreground.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Voxels {
    /// In prediction and label.
    pub(crate) both: u64,
    /// In the prediction.
    pub(crate) predicted: u64,
    /// In the label.
    pub(crate) labelled: u64,
}

impl Voxels {
    fn add(&mut self, other: Self) {
        self.both += other.both;
        self.predicted += other.predicted;
        self.labelled += other.labelled;
    }

    fn dice(self) -> f64 {
        match self.predicted + self.labelled {
            0 => 1.0,
            total => 2.0 * self.both as f64 / total as f64,
        }
    }
}

/// The mean Dice over `cases` of every candidate of a strategy, by name; the first is what predicts.
///
/// Measured on the network's grid against the resampled label, foreground of all classes together;
/// a case where both are empty counts as 1. The scores choose weights; results to report come from
/// `evaluate`, on the files' own grids.
pub(crate) fn validate(
    strategy: &dyn Strategy,
    cases: &[Arc<StoredCase>],
    patch: [usize; 3],
) -> Result<Validation> {
    let window = SlidingWindow::new(patch, 0.5, Tta::None)?;
    let mut found = Validation::default();
    for (index, candidate) in strategy.candidates().into_iter().enumerate() {
        let mut sum = 0.0;
        let mut counted = 0;
        for case in cases {
            let Some(label) = case.label() else { continue };
            let logits = window.predict(&candidate.networks, case.image().view(), &mut || true)?;
            let Some(logits) = logits else { continue };
            let mut counts = Voxels::default();
            let mut mask = Array3::<u8>::zeros(label.raw_dim());
            let voxels = logits.lanes(Axis(0));
            for ((lane, &label), mask) in voxels.into_iter().zip(&label).zip(&mut mask) {
                let background = lane[0];
                let predicted = lane.iter().skip(1).any(|&l| l > background);
                let labelled = label > 0;
                *mask = u8::from(predicted);
                counts.both += u64::from(predicted && labelled);
                counts.predicted += u64::from(predicted);
                counts.labelled += u64::from(labelled);
            }
            let dice = counts.dice();
            sum += dice;
            counted += 1;
            if index == 0 {
                found.voxels.add(counts);
                let case = Arc::clone(case);
                found.extremes.see(Shown { case, dice, mask });
            }
        }
        if counted > 0 {
            found
                .scores
                .push((candidate.name, sum / f64::from(counted)));
        }
    }
    Ok(found)
}

/// The scores by name, for the log.
pub(crate) fn by_name(scores: &[(String, f64)]) -> BTreeMap<String, f64> {
    scores.iter().cloned().collect()
}
