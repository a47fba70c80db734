//! Gamma.

use rand::Rng;

use super::statistics::Statistics;
use crate::math::power_of_unit;
use crate::simd::vectorised;
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
            keep_statistics: true,
        }
    }
}

/// With s = −1 if inverted, else 1, and the range \[lo, lo + r\] of s x:
/// y = ((s x − lo) / max(r, 1e-7))^exponent, then
/// s · ((y − mean(y)) · std(x) / std(y) + mean(s x)), or s · (y r + lo) where mean and standard
/// deviation are not restored.
///
/// The reference scales y back by r and adds lo before it takes mean and standard deviation;
/// both cancel, so they are left out but for its bound on std(y). Batchgenerators adds small
/// numbers where batchgeneratorsv2 takes a maximum; the difference is below 1e-6.
#[expect(
    clippy::float_cmp,
    reason = "the way there and back rounds: only doing nothing is the identity"
)]
pub(crate) fn raise(image: &mut [f32], exponent: f64, inverted: bool, keep_statistics: bool) {
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
    run(image, sign, low, to_unit, exponent);
    // y · gain + offset, both with the sign of the input.
    let (mean, gain, offset) = if keep_statistics {
        let after = Statistics::of(image);
        let gain = before.std * range / (after.std * range).max(SMALLEST_SPREAD);
        (
            after.mean as f32,
            f64::from(sign) * gain,
            before.mean as f32,
        )
    } else {
        (0.0, f64::from(sign) * range, sign * low)
    };
    let gain = gain as f32;
    scale(image, mean, gain, offset);
}

vectorised! {
    fn run(image: &mut [f32], sign: f32, low: f32, to_unit: f32, exponent: f32) {
        for value in image {
            *value = power_of_unit((sign * *value - low) * to_unit, exponent);
        }
    }
}

vectorised! {
    fn scale(image: &mut [f32], mean: f32, gain: f32, offset: f32) {
        for value in image {
            *value = (*value - mean) * gain + offset;
        }
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
            raise(&mut raised, 1.5, inverted, true);
            let after = Statistics::of(&raised);
            assert!((after.mean - before.mean).abs() < 1e-5);
            assert!((after.std - before.std).abs() < 1e-5);
            for k in 1..image.len() {
                assert_eq!(image[k] > image[k - 1], raised[k] > raised[k - 1]);
            }
        }
    }
}
