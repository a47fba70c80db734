//! Draws rotation, scaling and elastic deformation.

use rand::{Rng, RngExt};

use super::{Elastic, Generation, SpatialParams};
use crate::transform::{chance, in_plane_only};
use crate::{Draw, Interval, Params, PatchInfo, Transform};

/// nnU-Net makes room for patches shrunk by 1 / 0.85 although it shrinks up to 1.4-fold: the
/// corners of such patches are padding, which is cheaper than loading three times the voxels.
const SMALLEST_SHRINK: f64 = 0.85;

/// Turns, scales and deforms the patch in one resampling and brings it to its final shape.
///
/// Rotation, scaling and deformation are drawn independently; without any of them the patch is
/// cropped around its centre. Flat patches ([`Self::in_plane_ratio`]) are turned and scaled within their slices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spatial {
    /// Probability of a rotation.
    pub rotation_probability: f64,
    /// Angle around each of the three axes, in degrees.
    pub rotation_degrees: Interval,
    /// The one angle within the slices of a flat patch, in degrees.
    pub rotation_degrees_in_plane: Interval,
    /// Axes around which patches that are not flat are turned, `[z, y, x]`.
    pub rotation_axes: [bool; 3],
    /// Probability of scaling.
    pub scaling_probability: f64,
    /// Scale factor; above 1 shrinks what is seen.
    pub scaling: Interval,
    /// How it is drawn.
    pub scaling_draw: Draw,
    /// Whether a factor is drawn for each axis, not one for all.
    pub scaling_per_axis: bool,
    /// How far a magnified patch may look away from the centre, as a share of what it no longer
    /// sees: 0 is a central crop, 1 a crop anywhere.
    pub crop_jitter: f64,
    /// Elastic deformation.
    pub elastic: Elastic,
    /// Conventions of the resampling.
    pub generation: Generation,
    /// Patches with max(shape) / shape\[0\] above this are flat.
    pub in_plane_ratio: f64,
}

impl Transform for Spatial {
    fn name(&self) -> &'static str {
        "spatial"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let shape = info.final_shape;
        let in_plane = in_plane_only(shape, self.in_plane_ratio);
        let mut params = SpatialParams {
            generation: self.generation,
            ..SpatialParams::crop(shape)
        };
        if chance(rng, self.rotation_probability) {
            if in_plane {
                params.angles_rad[0] = self.rotation_degrees_in_plane.draw(rng).to_radians();
            } else {
                params.angles_rad = self.rotation_axes.map(|turned| match turned {
                    true => self.rotation_degrees.draw(rng).to_radians(),
                    false => 0.0,
                });
            }
        }
        if chance(rng, self.scaling_probability) {
            let factor = self.scaling_draw.from(self.scaling, rng);
            params.scale = [factor; 3];
            if self.scaling_per_axis {
                for factor in &mut params.scale[1..] {
                    *factor = self.scaling_draw.from(self.scaling, rng);
                }
            }
            if in_plane {
                params.scale[0] = 1.0;
            }
            if self.crop_jitter > 0.0 {
                for (axis, shift) in params.shift.iter_mut().enumerate() {
                    let unseen = (1.0 - params.scale[axis]).max(0.0) * shape[axis] as f64;
                    let place: f64 = rng.random_range(-0.5..=0.5);
                    *shift = place * self.crop_jitter * unseen;
                }
            }
        }
        if self.elastic.probability > 0.0 && chance(rng, self.elastic.probability) {
            params.elastic = Some(self.elastic.sample(shape, in_plane, rng));
        }
        Params::Spatial(params)
    }

    /// The bounding box of the patch turned to the limit around each axis (at most 90°), enlarged
    /// by the strongest shrinking up to 1 / 0.85. Flat patches keep their number of slices.
    fn initial_shape(&self, final_shape: [usize; 3]) -> [usize; 3] {
        let in_plane = in_plane_only(final_shape, self.in_plane_ratio);
        let patch = final_shape.map(|side| side as f64);
        let mut needed = patch;
        if self.rotation_probability > 0.0 {
            let range = if in_plane {
                self.rotation_degrees_in_plane
            } else {
                self.rotation_degrees
            };
            let angle = range.reach().min(90.0).to_radians();
            for axis in 0..3 {
                if if in_plane {
                    axis > 0
                } else {
                    !self.rotation_axes[axis]
                } {
                    continue;
                }
                let mut angles = [0.0; 3];
                angles[axis] = angle;
                let rotation = Generation::V2.matrix(angles, [1.0; 3]);
                for (k, needed) in needed.iter_mut().enumerate() {
                    let reach: f64 = (0..3).map(|j| rotation[j][k] * patch[j]).sum();
                    *needed = needed.max(reach.abs());
                }
            }
        }
        if self.scaling_probability > 0.0 {
            let largest = match self.scaling_draw {
                Draw::Inverse => 1.0 / self.scaling.low,
                Draw::Uniform | Draw::AroundOne => self.scaling.high,
            };
            let shrink = SMALLEST_SHRINK.max(1.0 / largest.max(1.0));
            needed = needed.map(|side| side / shrink);
        }
        let mut shape = needed.map(|side| side as usize);
        if in_plane {
            shape[0] = final_shape[0];
        }
        shape
    }
}
