//! Contrast.

use rand::Rng;

use super::statistics::Statistics;
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// Stretches each channel around its mean, drawn below and above 1 equally often; the range of
/// intensities is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// Factor on the distance from the mean.
    pub factor: Interval,
}

impl Transform for Contrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Contrast {
            factors: per_channel(info, 1.0, rng, |rng| self.factor.draw_around_one(rng)),
        }
    }
}

/// y = clamp((x − mean) · factor + mean, min, max), with the statistics of x.
#[expect(
    clippy::float_cmp,
    reason = "x − mean + mean rounds: only doing nothing is the identity"
)]
pub(crate) fn stretch(image: &mut [f32], factor: f64) {
    let factor = factor as f32;
    if factor == 1.0 {
        return;
    }
    let Statistics { mean, min, max, .. } = Statistics::of(image);
    let mean = mean as f32;
    for value in image {
        let stretched = (*value - mean) * factor + mean;
        // Two comparisons, not f32::clamp, which panics on a range of NaN.
        let capped = if stretched > max { max } else { stretched };
        *value = if capped < min { min } else { capped };
    }
}
