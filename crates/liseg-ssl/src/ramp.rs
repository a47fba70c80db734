//! Weights that rise over a run in steps.

use crate::Progress;
use liseg_nn::schedule::sigmoid_ramp;

/// R(⌊i n / T⌋, n): the sigmoid ramp over the whole run of T steps, in n stairs. Published
/// medical baselines use 200 stairs.
///
/// R(t, n) = exp(−5 (1 − t / n)²), from e⁻⁵ to 1.
pub fn stepped_ramp(progress: Progress, stairs: u64) -> f64 {
    if progress.iterations == 0 {
        return 1.0;
    }
    // In integers: the quotient of floats is one stair short at the end of some runs, as of 1885 steps.
    let product = u128::from(progress.iteration) * u128::from(stairs);
    let stair = product / u128::from(progress.iterations);
    sigmoid_ramp(u64::try_from(stair).unwrap_or(u64::MAX), stairs)
}

/// The steps that a fraction of the run is, rounded to whole ones.
pub(crate) fn steps_of_share(share: f64, iterations: u64) -> u64 {
    (share * iterations as f64).round() as u64
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
    fn the_last_stair_is_the_whole_weight_at_the_end_of_every_run() {
        for iterations in 1..5000 {
            let progress = Progress {
                iteration: iterations,
                iterations,
            };
            assert_eq!(stepped_ramp(progress, 200), 1.0, "{iterations} steps");
        }
    }

    #[test]
    fn a_share_of_a_run_is_the_step_nearest_to_it() {
        assert_eq!(steps_of_share(0.07, 100), 7, "0.07 * 100.0 is above 7");
        assert_eq!(steps_of_share(0.29, 100), 29, "0.29 * 100.0 is below 29");
        assert_eq!(steps_of_share(1.0, 1885), 1885);
        assert_eq!(steps_of_share(0.0, 1885), 0);
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
