//! Gamma.

use rand::Rng;

use super::statistics::{Statistics, extremes};
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
    let sign = if inverted { -1.0 } else { 1.0 };
    // s x − lo is the distance from one end of the range: from the upper one where s = −1.
    let unit = |min: f32, max: f32| {
        let range = f64::from(max) - f64::from(min);
        let per_range = f64::from(sign) / range.max(SMALLEST_SPREAD);
        let end = if inverted { max } else { min };
        (end, per_range as f32, range)
    };
    if !keep_statistics {
        let (min, max) = extremes(image);
        let (end, per_range, range) = unit(min, max);
        bend(image, end, per_range, exponent, sign * range as f32);
        return;
    }
    let before = Statistics::of(image);
    let (end, per_range, range) = unit(before.min, before.max);
    // Near the mean of the result, so that its variance does not cancel.
    let origin = power_of_unit((before.mean as f32 - end) * per_range, exponent);
    let (mut sum, mut squares) = (0.0, 0.0);
    for block in image.chunks_mut(BLOCK) {
        let [of_block, squares_of_block] = bend_and_sum(block, end, per_range, exponent, origin);
        sum += of_block;
        squares += squares_of_block;
    }
    let count = image.len().max(1) as f64;
    let mean = sum / count;
    let spread = (squares / count - mean * mean).max(0.0).sqrt();
    let gain = before.std * range / (spread * range).max(SMALLEST_SPREAD);
    let gain = (f64::from(sign) * gain) as f32;
    scale(image, origin + mean as f32, gain, before.mean as f32);
}

/// Values that are summed in f32 before they are added to the sum in f64.
const BLOCK: usize = 2048;
/// Partial sums of a block, kept side by side.
const LANES: usize = 16;

vectorised! {
    /// Sets x to ((x − `end`) · `per_range`)^`exponent` · `gain` + `end`.
    fn bend(image: &mut [f32], end: f32, per_range: f32, exponent: f32, gain: f32) {
        for value in image {
            *value = power_of_unit((*value - end) * per_range, exponent) * gain + end;
        }
    }
}

vectorised! {
    /// Sets x to ((x − `end`) · `per_range`)^`exponent`; the sums of the results' distances from
    /// `origin` and of their squares.
    fn bend_and_sum(
        image: &mut [f32],
        end: f32,
        per_range: f32,
        exponent: f32,
        origin: f32,
    ) -> [f64; 2] {
        let (mut sums, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        let mut add = |lane: usize, value: &mut f32| {
            *value = power_of_unit((*value - end) * per_range, exponent);
            let distance = *value - origin;
            sums[lane] += distance;
            squares[lane] += distance * distance;
        };
        let mut groups = image.chunks_exact_mut(LANES);
        for group in &mut groups {
            for (lane, value) in group.iter_mut().enumerate() {
                add(lane, value);
            }
        }
        for (lane, value) in groups.into_remainder().iter_mut().enumerate() {
            add(lane, value);
        }
        let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        [total(sums), total(squares)]
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
        let image: Vec<f32> = (0..5003)
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
