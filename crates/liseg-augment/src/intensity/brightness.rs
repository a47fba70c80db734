//! Brightness.

use rand::Rng;

use super::statistics::extremes;
use crate::simd::vectorised;
use crate::transform::per_channel;
use crate::{Draw, Interval, Params, PatchInfo, Transform};

/// Multiplies each channel with its own factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brightness {
    /// The factor.
    pub factor: Interval,
    /// How it is drawn.
    pub draw: Draw,
    /// Whether the distance from the channel's minimum is multiplied, and the result kept below
    /// its maximum, not the value itself.
    pub from_minimum: bool,
}

impl Transform for Brightness {
    fn name(&self) -> &'static str {
        "brightness"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Brightness {
            factors: per_channel(info, 1.0, rng, |rng| self.draw.from(self.factor, rng)),
            from_minimum: self.from_minimum,
        }
    }
}

/// Multiplies every voxel, or its distance from the minimum.
#[expect(
    clippy::float_cmp,
    reason = "x − lo + lo rounds: only doing nothing is the identity"
)]
pub(crate) fn multiply(image: &mut [f32], factor: f64, from_minimum: bool) {
    let factor = factor as f32;
    if factor == 1.0 {
        return;
    }
    if from_minimum {
        let (min, max) = extremes(image);
        from(image, factor, min, max);
    } else {
        run(image, factor);
    }
}

vectorised! {
    fn run(image: &mut [f32], factor: f32) {
        for value in image {
            *value *= factor;
        }
    }
}

vectorised! {
    fn from(image: &mut [f32], factor: f32, min: f32, max: f32) {
        for value in image {
            let moved = (*value - min) * factor + min;
            let capped = if moved > max { max } else { moved };
            *value = if capped < min { min } else { capped };
        }
    }
}
