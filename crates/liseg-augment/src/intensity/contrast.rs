//! Contrast.

use rand::Rng;

use super::statistics::Statistics;
use crate::simd::vectorised;
use crate::transform::per_channel;
use crate::{Draw, Interval, Params, PatchInfo, Transform};

/// Stretches each channel around its mean; the range of intensities is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// Factor on the distance from the mean.
    pub factor: Interval,
    /// How it is drawn.
    pub draw: Draw,
}

impl Transform for Contrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Contrast {
            factors: per_channel(info, 1.0, rng, |rng| self.draw.from(self.factor, rng)),
            keep_range: true,
        }
    }
}

/// y = (x − mean) · factor + mean, clamped to the range of x if that is kept.
#[expect(
    clippy::float_cmp,
    reason = "x − mean + mean rounds: only doing nothing is the identity"
)]
pub(crate) fn stretch(image: &mut [f32], factor: f64, keep_range: bool) {
    let factor = factor as f32;
    if factor == 1.0 {
        return;
    }
    let Statistics { mean, min, max, .. } = Statistics::of(image);
    let (min, max) = match keep_range {
        true => (min, max),
        false => (f32::NEG_INFINITY, f32::INFINITY),
    };
    run(image, factor, mean as f32, min, max);
}

vectorised! {
    fn run(image: &mut [f32], factor: f32, mean: f32, min: f32, max: f32) {
        for value in image {
            let stretched = (*value - mean) * factor + mean;
            // Two comparisons, not f32::clamp, which panics on a range of NaN.
            let capped = if stretched > max { max } else { stretched };
            *value = if capped < min { min } else { capped };
        }
    }
}
