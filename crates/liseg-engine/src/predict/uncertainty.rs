//! How sure a prediction is: maps voxel by voxel, and scores of a whole case.

use serde::{Deserialize, Serialize};

/// Shannon entropy of the classes' probabilities, divided by that of equal probabilities: 0 where one class
/// is certain, 1 where all are as likely. `foreground` are the probabilities of all classes but the
/// background, of `classes` in all.
pub(super) fn entropy(foreground: impl Iterator<Item = f32>, classes: usize) -> f32 {
    let mut rest = 1.0f32;
    let mut sum = 0.0;
    let term = |p: f32| if p > 0.0 { -p * p.ln() } else { 0.0 };
    for p in foreground {
        rest -= p;
        sum += term(p);
    }
    (sum + term(rest.max(0.0))) / (classes.max(2) as f32).ln()
}

/// What is summed over the voxels of a case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    foreground: u64,
    probability: f64,
    entropy: f64,
    disagreement: f64,
}

impl Sums {
    pub(super) fn count(&mut self, foreground: bool, p: f32, entropy: f32, disagreement: f32) {
        self.foreground += u64::from(foreground);
        self.probability += f64::from(p);
        self.entropy += f64::from(entropy);
        self.disagreement += f64::from(disagreement);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.foreground += other.foreground;
        self.probability += other.probability;
        self.entropy += other.entropy;
        self.disagreement += other.disagreement;
    }

    /// The scores; `disagreement` is known only with two networks or more.
    pub(super) fn scores(&self, known: bool) -> UncertaintyScores {
        let per = |sum: f64, whole: f64| if whole > 0.0 { sum / whole } else { 0.0 };
        UncertaintyScores {
            entropy: per(self.entropy, self.foreground as f64),
            disagreement: known.then(|| per(self.disagreement, 2.0 * self.probability)),
        }
    }
}

/// How unsure a prediction is, as a whole; larger is worse. For ranking cases that a person should
/// look at first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UncertaintyScores {
    /// The summed entropy of all voxels per voxel of predicted foreground: the volume of doubt
    /// relative to that of the organ. 0 without foreground.
    pub entropy: f64,
    /// One minus the Dice of the networks with each other, softly: Σ |p − q| / Σ (p + q), averaged
    /// over pairs. `None` with a single network.
    pub disagreement: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_zero_where_certain_and_one_where_even() {
        for (p, expected) in [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)] {
            assert!((entropy([p].into_iter(), 2) - expected).abs() < 1e-6, "{p}");
        }
        let third = 1.0 / 3.0;
        assert!((entropy([third, third].into_iter(), 3) - 1.0).abs() < 1e-6);
        assert!((entropy([0.25].into_iter(), 2) - 0.811_278).abs() < 1e-5);
    }

    #[test]
    fn disagreement_of_hard_masks_is_one_minus_their_dice() {
        // Networks that see voxels {0, 1, 2} and {1, 2, 3} of five: Dice 2/3.
        let mut sums = Sums::default();
        for (a, b) in [(1.0, 0.0), (1.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)] {
            let (a, b): (f32, f32) = (a, b);
            sums.count(a + b > 1.0, (a + b) / 2.0, 0.5, (a - b).abs());
        }
        let scores = sums.scores(true);
        assert!((scores.disagreement.unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!((scores.entropy - 2.5 / 2.0).abs() < 1e-9);
        assert_eq!(sums.scores(false).disagreement, None);
        assert_eq!(Sums::default().scores(false).entropy, 0.0);
    }
}
