//! How learning rates and loss weights change over a run.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the learning rate falls over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// [`polynomial`] decay to zero; nnU-Net's, which counts epochs where this counts steps.
    Polynomial {
        /// 0.9 in nnU-Net.
        #[serde(default = "nnunet_exponent")]
        exponent: f64,
    },
    /// Half a cosine from 1 to `last` (Loshchilov & Hutter 2017, without restarts).
    Cosine {
        /// Share of the first rate that is left at the end.
        #[serde(default)]
        last: f64,
    },
    /// [`stairs`] down: multiplied by `factor` every `every` steps.
    Stairs {
        /// Steps between two stairs, 1 or more.
        every: u64,
        /// What the rate is multiplied by, above 0.
        factor: f64,
    },
    /// The same rate throughout.
    Constant,
}

fn nnunet_exponent() -> f64 {
    0.9
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Polynomial {
            exponent: nnunet_exponent(),
        }
    }
}

impl Schedule {
    /// The share of the first rate in step `step` of `steps`, counted from 0.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        match self {
            Self::Polynomial { exponent } => polynomial(1.0, step, steps, exponent),
            Self::Cosine { last } => {
                let phase = step.min(steps) as f64 / steps.max(1) as f64;
                last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * phase).cos())
            }
            Self::Stairs { every, factor } => stairs(1.0, step, every, factor),
            Self::Constant => 1.0,
        }
    }

    /// Refuses numbers that make no schedule.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(self) -> Result<()> {
        let reason = match self {
            Self::Polynomial { exponent } if !(exponent > 0.0 && exponent.is_finite()) => {
                format!("exponent {exponent} must be positive")
            }
            Self::Cosine { last } if !(0.0..=1.0).contains(&last) => {
                format!("last {last} must be a share in 0..=1")
            }
            Self::Stairs { every, factor }
                if every == 0 || !(factor > 0.0 && factor.is_finite()) =>
            {
                format!("{factor} every {every} steps; expected a positive factor every 1 or more")
            }
            _ => return Ok(()),
        };
        Err(Error::Setting {
            field: "training.schedule",
            reason,
        })
    }
}

/// Polynomial decay, lr₀ · (1 − i / n)^exponent; 0 from i = n on.
///
/// nnU-Net uses exponent 0.9 and counts epochs.
pub fn polynomial(initial: f64, step: u64, steps: u64, exponent: f64) -> f64 {
    if step >= steps {
        return 0.0;
    }
    initial * (1.0 - step as f64 / steps as f64).powf(exponent)
}

/// Stairs down, lr₀ · factor^⌊i / every⌋; constant when `every` is 0. BCP on the left atrium takes a
/// tenth every 2500 steps.
pub fn stairs(initial: f64, step: u64, every: u64, factor: f64) -> f64 {
    let stair = step.checked_div(every).unwrap_or(0);
    initial * factor.powi(i32::try_from(stair).unwrap_or(i32::MAX))
}

/// Sigmoid-shaped ramp from e⁻⁵ to 1 (Laine & Aila 2017): exp(−5 (1 − clip(i, 0, n) / n)²);
/// 1 when n is 0.
pub fn sigmoid_ramp(step: u64, length: u64) -> f64 {
    if length == 0 {
        return 1.0;
    }
    let phase = 1.0 - step.min(length) as f64 / length as f64;
    (-5.0 * phase * phase).exp()
}

/// Linear warm-up, (i + 1) / n up to 1; 1 when n is 0.
pub fn linear_warm_up(step: u64, length: u64) -> f64 {
    if length == 0 {
        1.0
    } else {
        ((step + 1) as f64 / length as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn polynomial_matches_nnunet() {
        // Values of nnU-Net's PolyLRScheduler.
        assert!((polynomial(0.01, 1, 1000, 0.9) - 0.009990999549834914).abs() < 1e-15);
        assert!((polynomial(0.01, 500, 1000, 0.9) - 0.005358867312681466).abs() < 1e-15);
        assert_eq!(polynomial(0.01, 1000, 1000, 0.9), 0.0);
    }

    #[test]
    fn schedules_begin_at_one_and_end_where_they_say() {
        let cosine = Schedule::Cosine { last: 0.1 };
        for (schedule, middle, end) in [
            (Schedule::default(), 0.5f64.powf(0.9), 0.0),
            (cosine, 0.55, 0.1),
            (Schedule::Constant, 1.0, 1.0),
        ] {
            assert!((schedule.factor(0, 100) - 1.0).abs() < 1e-12);
            assert!(
                (schedule.factor(50, 100) - middle).abs() < 1e-12,
                "{schedule:?}"
            );
            assert!(
                (schedule.factor(100, 100) - end).abs() < 1e-12,
                "{schedule:?}"
            );
            schedule.check().unwrap();
        }
        assert!(Schedule::Cosine { last: 2.0 }.check().is_err());
        assert!(Schedule::Polynomial { exponent: 0.0 }.check().is_err());
    }

    proptest! {
        #[test]
        fn ramps_rise_from_almost_nothing_to_one(step in 0u64..2000, length in 1u64..1000) {
            let value = sigmoid_ramp(step, length);
            prop_assert!(value <= sigmoid_ramp(step + 1, length));
            prop_assert!((f64::exp(-5.0) - 1e-12..=1.0).contains(&value));
            if step >= length {
                prop_assert!(value == 1.0 && linear_warm_up(step, length) == 1.0);
            }
        }
    }
}
