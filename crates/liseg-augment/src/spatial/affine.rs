//! Rotation and scaling.

use ndarray::{Array3, Array4, s};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::resample::resample;
use crate::sample::LONGEST_SIDE;
use crate::transform::{chance, in_plane_only};
use crate::{Error, Interval, OUTSIDE, Params, PatchInfo, Result, Sample, Transform};

/// nnU-Net makes room for patches shrunk by 1 / 0.85 although it shrinks up to 1.4-fold: the
/// corners of such patches are padding, which is cheaper than loading three times the voxels.
const SMALLEST_SHRINK: f64 = 0.85;

/// Turns and scales the patch in one resampling and brings it to its final shape.
///
/// Rotation and scaling are drawn independently; without either the patch is cropped around its
/// centre. Flat patches ([`Self::in_plane_ratio`]) are turned and scaled within their slices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spatial {
    /// Probability of a rotation.
    pub rotation_probability: f64,
    /// Angle around each of the three axes, in degrees.
    pub rotation_degrees: Interval,
    /// The one angle within the slices of a flat patch, in degrees.
    pub rotation_degrees_in_plane: Interval,
    /// Probability of scaling.
    pub scaling_probability: f64,
    /// Scale factor, one for all axes; above 1 shrinks what is seen.
    pub scaling: Interval,
    /// Patches with max(shape) / shape\[0\] above this are flat.
    pub in_plane_ratio: f64,
}

impl Transform for Spatial {
    fn name(&self) -> &'static str {
        "spatial"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let in_plane = in_plane_only(info.final_shape, self.in_plane_ratio);
        let mut params = SpatialParams::crop(info.final_shape);
        if chance(rng, self.rotation_probability) {
            if in_plane {
                params.angles_rad[0] = self.rotation_degrees_in_plane.draw(rng).to_radians();
            } else {
                params.angles_rad = [(); 3].map(|()| self.rotation_degrees.draw(rng).to_radians());
            }
        }
        if chance(rng, self.scaling_probability) {
            let factor = self.scaling.draw(rng);
            params.scale = [if in_plane { 1.0 } else { factor }, factor, factor];
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
            for axis in 0..if in_plane { 1 } else { 3 } {
                let mut angles = [0.0; 3];
                angles[axis] = angle;
                let rotation = matrix(angles, [1.0; 3]);
                for (k, needed) in needed.iter_mut().enumerate() {
                    let reach: f64 = (0..3).map(|j| rotation[j][k] * patch[j]).sum();
                    *needed = needed.max(reach.abs());
                }
            }
        }
        if self.scaling_probability > 0.0 {
            let shrink = SMALLEST_SHRINK.max(1.0 / self.scaling.high.max(1.0));
            needed = needed.map(|side| side / shrink);
        }
        let mut shape = needed.map(|side| side as usize);
        if in_plane {
            shape[0] = final_shape[0];
        }
        shape
    }
}

/// A drawn rotation and scaling.
///
/// Output voxel k reads the input at A (k − (P − 1)/2) + (S − 1)/2, where P is the final shape, S
/// the input's and A = Rz Ry Rx diag(scale), with axes in the order (z, y, x): "Rx" turns around
/// the first axis, within the slices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpatialParams {
    /// Shape of the result, `[z, y, x]` in voxels.
    pub final_shape: [usize; 3],
    /// Angles around the axes z, y, x in radians; finite.
    pub angles_rad: [f64; 3],
    /// Scale factors along z, y, x, each in 0.01..=100; above 1 shrinks what is seen.
    pub scale: [f64; 3],
}

impl SpatialParams {
    /// Neither rotation nor scaling: a central crop, padded where the input is smaller.
    pub const fn crop(final_shape: [usize; 3]) -> Self {
        Self {
            final_shape,
            angles_rad: [0.0; 3],
            scale: [1.0; 3],
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |field, found: String, expected| {
            Err(Error::Parameter {
                transform: "spatial",
                field,
                found,
                expected,
            })
        };
        let sides_fit = self
            .final_shape
            .iter()
            .all(|side| (1..=LONGEST_SIDE).contains(side));
        let voxels: u64 = self.final_shape.iter().map(|&side| side as u64).product();
        if !sides_fit || voxels > u64::from(u32::MAX) {
            let expected = "sides of 1 to 32767 and at most 2^32 - 1 voxels";
            return wrong("final_shape", format!("{:?}", self.final_shape), expected);
        }
        if !self.angles_rad.iter().all(|angle| angle.is_finite()) {
            return wrong(
                "angles_rad",
                format!("{:?}", self.angles_rad),
                "finite numbers",
            );
        }
        if !self
            .scale
            .iter()
            .all(|factor| (0.01..=100.0).contains(factor))
        {
            return wrong(
                "scale",
                format!("{:?}", self.scale),
                "factors from 0.01 to 100",
            );
        }
        Ok(())
    }

    /// Applies the parameters to a checked sample.
    pub(crate) fn apply(&self, sample: Sample) -> Result<Sample> {
        self.check()?;
        // What was not drawn is exactly neutral.
        Ok(if *self == Self::crop(self.final_shape) {
            crop(sample, self.final_shape)
        } else {
            resample(
                &sample,
                self.final_shape,
                matrix(self.angles_rad, self.scale),
            )
        })
    }
}

/// Rz Ry Rx diag(scale), rows and columns in the order (z, y, x).
pub(crate) fn matrix(angles_rad: [f64; 3], scale: [f64; 3]) -> [[f64; 3]; 3] {
    let [(sx, cx), (sy, cy), (sz, cz)] = angles_rad.map(f64::sin_cos);
    let rotation = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ];
    rotation.map(|[a, b, c]| [a * scale[0], b * scale[1], c * scale[2]])
}

/// The central part of the sample, from S//2 − P//2 on; where it is smaller than the final
/// shape, image 0 and label −1.
fn crop(sample: Sample, final_shape: [usize; 3]) -> Sample {
    let shape = sample.shape();
    if shape == final_shape {
        return sample;
    }
    // Along each axis: where the copied part starts in the input and in the output, its length.
    let [z, y, x] = [0, 1, 2].map(|axis| {
        let (input, output) = (shape[axis], final_shape[axis]);
        let from = (input / 2).saturating_sub(output / 2);
        let to = (output / 2).saturating_sub(input / 2);
        (from, to, (input - from).min(output - to))
    });
    let [nz, ny, nx] = final_shape;
    let mut image = Array4::zeros((sample.channels(), nz, ny, nx));
    let mut label = Array3::from_elem((nz, ny, nx), OUTSIDE);
    let source = |(from, _, count): (usize, usize, usize)| from..from + count;
    let target = |(_, to, count): (usize, usize, usize)| to..to + count;
    image
        .slice_mut(s![.., target(z), target(y), target(x)])
        .assign(&sample.image.slice(s![.., source(z), source(y), source(x)]));
    label
        .slice_mut(s![target(z), target(y), target(x)])
        .assign(&sample.label.slice(s![source(z), source(y), source(x)]));
    Sample { image, label }
}
