//! Gamma.

use rand::Rng;

use super::statistics::Statistics;
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// Below this a range or a standard deviation counts as zero (batchgeneratorsv2).
const SMALLEST_SPREAD: f64 = 1e-7;

/// Raises each channel, mapped to 0..1, to a power drawn below and above 1 equally often, and
/// restores its mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gamma {
    /// The exponent.
    pub exponent: Interval,
    /// Whether the power acts on the negated image.
    pub inverted: bool,
}

impl Transform for Gamma {
    fn name(&self) -> &'static str {
        if self.inverted {
            "gamma_inverted"
        } else {
            "gamma"
        }
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Gamma {
            exponents: per_channel(info, 1.0, rng, |rng| self.exponent.draw_around_one(rng)),
            inverted: self.inverted,
        }
    }
}

/// With s = −1 if inverted, else 1, and the range \[lo, lo + r\] of s x:
/// y = ((s x − lo) / max(r, 1e-7))^exponent, then
/// s · ((y − mean(y)) · std(x) / std(y) + mean(s x)).
///
/// The reference scales y back by r and adds lo before it takes mean and standard deviation;
/// both cancel, so they are left out but for its bound on std(y).
#[expect(
    clippy::float_cmp,
    reason = "the way there and back rounds: only doing nothing is the identity"
)]
pub(crate) fn raise(image: &mut [f32], exponent: f64, inverted: bool) {
    let exponent = exponent as f32;
    if exponent == 1.0 {
        return;
    }
    let before = Statistics::of(image);
    let (sign, low) = if inverted {
        (-1.0, -before.max)
    } else {
        (1.0, before.min)
    };
    let range = f64::from(before.max) - f64::from(before.min);
    let to_unit = (1.0 / range.max(SMALLEST_SPREAD)) as f32;
    for value in image.iter_mut() {
        *value = ((sign * *value - low) * to_unit).powf(exponent);
    }
    let after = Statistics::of(image);
    let gain = before.std * range / (after.std * range).max(SMALLEST_SPREAD);
    // s · ((y − mean(y)) · gain + s · mean(x)) = (y − mean(y)) · s · gain + mean(x)
    let (mean, gain) = (after.mean as f32, f64::from(sign) * gain);
    let (gain, offset) = (gain as f32, before.mean as f32);
    for value in image {
        *value = (*value - mean) * gain + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_survive_and_order_is_kept() {
        let image: Vec<f32> = (0..500)
            .map(|k| (k as f32 * 0.37).sin() * 3.0 + 1.0)
            .collect();
        let before = Statistics::of(&image);
        for inverted in [false, true] {
            let mut raised = image.clone();
            raise(&mut raised, 1.5, inverted);
            let after = Statistics::of(&raised);
            assert!((after.mean - before.mean).abs() < 1e-5);
            assert!((after.std - before.std).abs() < 1e-5);
            for k in 1..image.len() {
                assert_eq!(image[k] > image[k - 1], raised[k] > raised[k - 1]);
            }
        }
    }
}
