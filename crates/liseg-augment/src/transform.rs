//! The trait of random transforms: parameters are drawn first, then applied.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::Params;

/// What a transform may know about the patch when it draws its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PatchInfo {
    /// Size of the patch that the network gets, `[z, y, x]` in voxels.
    pub final_shape: [usize; 3],
    /// How many channels the image has.
    pub channels: usize,
}

/// A random transform: draws parameters, which then do the work.
///
/// Drawing and applying are apart so that any augmented patch can be logged and made again:
/// [`Params::apply`] is a pure function.
pub trait Transform: Send + Sync {
    /// The transform's name in logs.
    fn name(&self) -> &'static str;

    /// Draws the parameters for one patch. All randomness of the transform happens here.
    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params;

    /// How large a patch must be loaded for this transform to fill one of `final_shape`
    /// (`[z, y, x]`, voxels). Transforms that keep the grid need no more than that.
    fn initial_shape(&self, final_shape: [usize; 3]) -> [usize; 3] {
        final_shape
    }
}

/// A value drawn for one channel of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnChannel<T> {
    /// The channel, counted from 0.
    pub channel: usize,
    /// The value.
    pub value: T,
}

/// Draws a value for each channel that a coin of the given probability picks.
pub(crate) fn per_channel<T>(
    info: &PatchInfo,
    probability: f64,
    rng: &mut dyn Rng,
    mut draw: impl FnMut(&mut dyn Rng) -> T,
) -> Vec<OnChannel<T>> {
    let mut values = Vec::with_capacity(info.channels);
    for channel in 0..info.channels {
        if chance(rng, probability) {
            values.push(OnChannel {
                channel,
                value: draw(rng),
            });
        }
    }
    values
}

/// True with the given probability; 0 is never, 1 is always.
pub(crate) fn chance(rng: &mut dyn Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Whether a patch is so flat that it is turned and scaled in its slices only (nnU-Net's
/// "dummy 2-D" mode): max(shape) / shape\[0\] > `ratio`.
pub(crate) fn in_plane_only(shape: [usize; 3], ratio: f64) -> bool {
    let longest = shape.into_iter().max().unwrap_or(0);
    longest as f64 > ratio * shape[0] as f64
}
