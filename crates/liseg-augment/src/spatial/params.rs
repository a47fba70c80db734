//! A drawn spatial transform, and how it is applied.

use ndarray::{Array3, Array4, s};
use serde::{Deserialize, Serialize};

use super::ElasticParams;
use super::warp::Grid;
use super::{resample, warp};
use crate::sample::LONGEST_SIDE;
use crate::{Error, ExtraMap, OUTSIDE, Result, Sample, Scratch};

/// Which nnU-Net's conventions a resampling follows.
///
/// With P the final shape, S the input's and e the displacement, output voxel k reads the input at
/// - V2: A (k − (P − 1)/2 + e − mean e) + (S − 1)/2 with A = Rz Ry Rx diag(scale);
/// - V1: A (k − (P − 1)/2 + e) + (S − 1)/2 with A = diag(scale) (Rx Ry Rz)ᵀ,
///
/// where axes have the order (z, y, x): "Rx" turns around the first axis, within the slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// nnU-Net v1 and v2 up to 2.3 (batchgenerators): cubic splines for the image, 0 where the
    /// point leaves the outermost voxel centres; the label there is −1.
    V1,
    /// nnU-Net v2 (batchgeneratorsv2): linear; the border fades to 0 over one voxel.
    #[default]
    V2,
}

impl Generation {
    /// The matrix A of the given angles (radians, around z, y, x) and scale factors.
    pub(crate) fn matrix(self, angles_rad: [f64; 3], scale: [f64; 3]) -> [[f64; 3]; 3] {
        let [(sx, cx), (sy, cy), (sz, cz)] = angles_rad.map(f64::sin_cos);
        match self {
            Self::V2 => [
                [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
                [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
                [-sy, cy * sx, cy * cx],
            ]
            .map(|[a, b, c]| [a * scale[0], b * scale[1], c * scale[2]]),
            Self::V1 => {
                let rotation = [
                    [cy * cz, -cy * sz, sy],
                    [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
                    [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
                ];
                [0, 1, 2].map(|i| [0, 1, 2].map(|j| scale[i] * rotation[j][i]))
            }
        }
    }
}

/// A drawn rotation, scaling, deformation and crop: one resampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpatialParams {
    /// Shape of the result, `[z, y, x]` in voxels.
    pub final_shape: [usize; 3],
    /// Angles around the axes z, y, x in radians; finite.
    pub angles_rad: [f64; 3],
    /// Scale factors along z, y, x, each in 0.01..=100; above 1 shrinks what is seen.
    pub scale: [f64; 3],
    /// Where the result's centre lies in the input, in its voxels from its centre along z, y, x.
    #[serde(default)]
    pub shift: [f64; 3],
    /// The deformation, if any.
    #[serde(default)]
    pub elastic: Option<ElasticParams>,
    /// Conventions of the resampling.
    #[serde(default)]
    pub generation: Generation,
}

impl SpatialParams {
    /// Neither rotation nor scaling: a central crop, padded where the input is smaller.
    pub const fn crop(final_shape: [usize; 3]) -> Self {
        Self {
            final_shape,
            angles_rad: [0.0; 3],
            scale: [1.0; 3],
            shift: [0.0; 3],
            elastic: None,
            generation: Generation::V2,
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
            let found = format!("{:?}", self.angles_rad);
            return wrong("angles_rad", found, "finite numbers");
        }
        if !self.scale.iter().all(|f| (0.01..=100.0).contains(f)) {
            let found = format!("{:?}", self.scale);
            return wrong("scale", found, "factors from 0.01 to 100");
        }
        if !self.shift.iter().all(|v| v.abs() <= LONGEST_SIDE as f64) {
            let found = format!("{:?}", self.shift);
            return wrong("shift", found, "at most 32767 voxels");
        }
        match &self.elastic {
            Some(elastic) => elastic.check(),
            None => Ok(()),
        }
    }

    /// Whether nothing but a crop is asked for. What was not drawn is exactly neutral.
    fn is_crop(&self) -> bool {
        let generation = self.generation;
        *self
            == Self {
                generation,
                ..Self::crop(self.final_shape)
            }
    }

    /// Applies the parameters to a checked sample.
    pub(crate) fn apply(&self, sample: Sample, scratch: &mut Scratch) -> Result<Sample> {
        self.check()?;
        if self.is_crop() {
            return Ok(crop(sample, self.final_shape, scratch));
        }
        let grid = Grid {
            input: sample.shape(),
            output: self.final_shape,
            matrix: self.generation.matrix(self.angles_rad, self.scale),
            shift: self.shift,
        };
        let elastic = self.elastic.as_ref();
        let field = elastic.map(|elastic| elastic.field(self.final_shape, scratch));
        let result = match (&field, self.generation) {
            (None, Generation::V2) => resample::resample(&sample, &grid, scratch),
            (field, generation) => warp::warp(&sample, &grid, field.as_ref(), generation, scratch),
        };
        if let Some(field) = field {
            field.recycle(scratch);
        }
        scratch.recycle(sample);
        Ok(result)
    }
}

/// Arrays of the given shape for the image, the label and the maps of `sample`, filled with what
/// stands for the outside.
pub(super) fn blank(sample: &Sample, shape: [usize; 3], scratch: &mut Scratch) -> Sample {
    let mut blank = empty(sample, shape, scratch);
    blank.image.fill(0.0);
    blank.label.fill(OUTSIDE);
    for map in &mut blank.maps {
        map.values.fill(map.kind.outside());
    }
    blank
}

/// Arrays of the given shape for the image, the label and the maps of `sample`, whose contents mean
/// nothing.
pub(super) fn empty(sample: &Sample, shape: [usize; 3], scratch: &mut Scratch) -> Sample {
    let [nz, ny, nx] = shape;
    let voxels = nz * ny * nx;
    let channels = sample.channels();
    let image = scratch.floats(channels * voxels);
    let label = scratch.labels(voxels);
    let maps = sample.maps.iter().map(|map| ExtraMap {
        values: Array3::from_shape_vec((nz, ny, nx), scratch.floats(voxels))
            .unwrap_or_else(|_| Array3::zeros((nz, ny, nx))),
        kind: map.kind,
    });
    Sample {
        maps: maps.collect(),
        image: Array4::from_shape_vec((channels, nz, ny, nx), image)
            .unwrap_or_else(|_| Array4::zeros((channels, nz, ny, nx))),
        label: Array3::from_shape_vec((nz, ny, nx), label)
            .unwrap_or_else(|_| Array3::from_elem((nz, ny, nx), OUTSIDE)),
    }
}

/// The central part of the sample, from S//2 − P//2 on; where it is smaller than the final
/// shape, image 0 and label −1.
fn crop(sample: Sample, final_shape: [usize; 3], scratch: &mut Scratch) -> Sample {
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
    let mut result = blank(&sample, final_shape, scratch);
    let source = |(from, _, count): (usize, usize, usize)| from..from + count;
    let target = |(_, to, count): (usize, usize, usize)| to..to + count;
    result
        .image
        .slice_mut(s![.., target(z), target(y), target(x)])
        .assign(&sample.image.slice(s![.., source(z), source(y), source(x)]));
    result
        .label
        .slice_mut(s![target(z), target(y), target(x)])
        .assign(&sample.label.slice(s![source(z), source(y), source(x)]));
    for (map, old) in result.maps.iter_mut().zip(&sample.maps) {
        map.values
            .slice_mut(s![target(z), target(y), target(x)])
            .assign(&old.values.slice(s![source(z), source(y), source(x)]));
    }
    scratch.recycle(sample);
    result
}
