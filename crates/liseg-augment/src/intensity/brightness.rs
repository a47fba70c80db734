//! Brightness.

use rand::Rng;

use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// Multiplies each channel with its own factor, drawn below and above 1 equally often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brightness {
    /// The factor.
    pub factor: Interval,
}

impl Transform for Brightness {
    fn name(&self) -> &'static str {
        "brightness"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Brightness {
            factors: per_channel(info, 1.0, rng, |rng| self.factor.draw_around_one(rng)),
        }
    }
}

/// Multiplies every voxel.
pub(crate) fn multiply(image: &mut [f32], factor: f64) {
    let factor = factor as f32;
    for value in image {
        *value *= factor;
    }
}
