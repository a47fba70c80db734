//! Contrast reversal.

use rand::Rng;

use super::statistics::Statistics;
use crate::simd::vectorised;
use crate::transform::per_channel;
use crate::{Params, PatchInfo, Transform};

/// Makes bright voxels dark and dark ones bright: each channel is reflected at its mean, so that
/// mean and standard deviation stay. T1 and T2 weighting differ like this for many tissues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reversal;

impl Transform for Reversal {
    fn name(&self) -> &'static str {
        "reversal"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let channels = per_channel(info, 1.0, rng, |_| ()).into_iter();
        Params::Reversal {
            channels: channels.map(|on| on.channel).collect(),
        }
    }
}

/// y = 2 mean − x.
pub(crate) fn reverse(image: &mut [f32]) {
    let twice = (2.0 * Statistics::of(image).mean) as f32;
    reflect(image, twice);
}

vectorised! {
    fn reflect(image: &mut [f32], twice: f32) {
        for value in image {
            *value = twice - *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voxels_change_sides_of_their_mean() {
        let mut image = vec![1.0f32, 2.0, 6.0];
        reverse(&mut image);
        assert_eq!(image, [5.0, 4.0, 0.0]);
    }
}
