//! Weights that rise over a run in steps.

use crate::Progress;
use liseg_nn::schedule::sigmoid_ramp;

/// R(⌊i / (T / n)⌋, n): the sigmoid ramp over the whole run of T steps, in n stairs. Published
/// medical baselines use 200 stairs.
///
/// R(t, n) = exp(−5 (1 − t / n)²), from e⁻⁵ to 1.
pub fn stepped_ramp(progress: Progress, stairs: u64) -> f64 {
    if progress.iterations == 0 || stairs == 0 {
        return 1.0;
    }
    let stair = progress.iteration as f64 / (progress.iterations as f64 / stairs as f64);
    sigmoid_ramp(stair.floor() as u64, stairs)
}

/// i / T, in 0..=1.
pub fn share_of_run(progress: Progress) -> f64 {
    if progress.iterations == 0 {
        return 1.0;
    }
    (progress.iteration as f64 / progress.iterations as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stairs_rise_from_almost_nothing_to_one(iteration in 0u64..5000, iterations in 1u64..5000) {
            let at = |iteration| Progress { iteration, iterations };
            let value = stepped_ramp(at(iteration), 200);
            prop_assert!(value <= stepped_ramp(at(iteration + 1), 200));
            prop_assert!((f64::exp(-5.0) - 1e-12..=1.0).contains(&value));
            prop_assert!(iteration < iterations || value == 1.0);
            prop_assert!((0.0..=1.0).contains(&share_of_run(at(iteration))));
        }
    }

    #[test]
    fn a_run_without_steps_has_full_weight() {
        let nothing = Progress {
            iteration: 0,
            iterations: 0,
        };
        assert_eq!(stepped_ramp(nothing, 200), 1.0);
        assert_eq!(share_of_run(nothing), 1.0);
    }
}
