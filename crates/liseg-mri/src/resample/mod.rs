//! Bringing volumes to another spacing as nnU-Net v2 does: half-pixel centres, cubic B-splines with
//! prefilter for images, a comparison of shares for labels, no anti-aliasing, and a rule for thick
//! slices.
//!
//! # Thick slices
//! Where the coarsest spacing is more than three times the finest, interpolating across slices
//! would invent anatomy. Then every slice is resized by itself, and the result between slices is
//! the nearest slice ([`Resampling::along_z`]).
//!
//! # Source
//! Isensee et al. 2021, Nature Methods 18; nnU-Net 2.8.1 with scikit-image 0.26 and SciPy 1.17. The
//! splines continue each line with its edge value in closed form instead of padding it, which is
//! the same to 1e-13 and faster.

mod grid_map;
mod labels;
mod onto;
mod operator;
mod resize;
mod smooth;

pub use grid_map::{AxisMap, GridMap, Tap};
pub use onto::{resample_image_onto, resample_labels_onto};
pub use smooth::smooth_for;

use crate::{Error, Result};
use liseg_volume::{LabelMap, Spacing, Volume};
use ndarray::{Array3, ArrayView3};

/// How values between voxel centres are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The nearest voxel; halves go up. Order 0.
    Nearest,
    /// Linear between the two neighbours, the edge value beyond the outermost centres. Order 1.
    Linear,
    /// The cubic B-spline through the voxels, extended by their edge values. Order 3.
    Cubic,
}

/// Whether one axis is resized apart from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeparateZ {
    /// When the coarsest current (else the coarsest new) spacing is more than three times the
    /// finest, and one axis alone has it.
    Auto,
    /// Never.
    Never,
    /// Along the axis that alone has the coarsest current spacing, if there is one.
    Always,
}

/// How an array of intensities is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resampling {
    /// Along all axes, or within slices where one axis is separated.
    pub interpolation: Interpolation,
    /// Along the separated axis.
    pub along_z: Interpolation,
    /// When an axis is separated.
    pub separate_z: SeparateZ,
}

impl Resampling {
    /// For images: cubic, nearest between thick slices.
    pub const IMAGE: Self = Self {
        interpolation: Interpolation::Cubic,
        along_z: Interpolation::Nearest,
        separate_z: SeparateZ::Auto,
    };

    /// For network outputs on their way back to the image's grid: linear, nearest between thick
    /// slices.
    pub const LOGITS: Self = Self {
        interpolation: Interpolation::Linear,
        along_z: Interpolation::Nearest,
        separate_z: SeparateZ::Auto,
    };

    /// For soft labels, with the weights that [`resample_labels_array`] compares.
    pub const LABELS: Self = Self::LOGITS;
}

/// Above this ratio of the coarsest to the finest spacing slices count as thick (nnU-Net's
/// `ANISO_THRESHOLD`).
const THICK: f64 = 3.0;

/// Spacings that come from an affine carry the rounding of its f32 entries: two axes closer than
/// this, relatively, have one spacing.
const SAME_SPACING: f64 = 1e-5;

/// More voxels than any scanner makes (16 GiB as f32): resampling to them is a mistake in a header.
const LARGEST: usize = 1 << 32;

/// The shape (z, y, x) of a grid with spacing `from` after resampling to spacing `to`: per axis
/// `from / to · n`, rounded half to even in f64.
///
/// An axis may vanish: one slice of 1 mm resampled to 3 mm gives 0, as in nnU-Net.
/// [`resample_image`] keeps at least one voxel.
pub fn resampled_shape(shape: [usize; 3], from: Spacing, to: Spacing) -> [usize; 3] {
    let (from, to) = (from.zyx(), to.zyx());
    std::array::from_fn(|a| (from[a] / to[a] * shape[a] as f64).round_ties_even() as usize)
}

/// The array axis that is resized apart from the others, if any: 0 for z, 1 for y, 2 for x.
///
/// Differs from nnU-Net in treating spacings within 1e-5 of each other as equal.
pub fn separate_axis(from: Spacing, to: Spacing, rule: SeparateZ) -> Option<usize> {
    let spacing = match rule {
        SeparateZ::Never => return None,
        SeparateZ::Always => from,
        SeparateZ::Auto if from.anisotropy() > THICK => from,
        SeparateZ::Auto if to.anisotropy() > THICK => to,
        SeparateZ::Auto => return None,
    };
    let spacing = spacing.zyx();
    let coarsest = spacing.into_iter().fold(0.0, f64::max);
    let mut axes = (0..3).filter(|&a| spacing[a] >= coarsest * (1.0 - SAME_SPACING));
    match (axes.next(), axes.next()) {
        (Some(axis), None) => Some(axis),
        _ => None,
    }
}

/// Resamples intensities `[z, y, x]` to `new_shape`; the spacings only decide about thick slices.
///
/// Computed in f64. Results are clipped to the range of the array, or to that of each slice where an
/// axis is separated. Axes that keep their size are passed through. An array that keeps its shape is
/// returned as it is; one without voxels gives zeros. Cubic splines are recursive: a NaN or an
/// infinite voxel spoils its whole line, so check first.
///
/// # Examples
/// ```
/// use liseg_mri::resample::{Resampling, resample_array};
/// use liseg_volume::Spacing;
/// use ndarray::Array3;
///
/// let ramp = Array3::from_shape_fn((4, 8, 8), |(_, _, x)| x as f32);
/// let (from, to) = (Spacing::new(2.0, 1.0, 1.0)?, Spacing::new(2.0, 1.0, 0.5)?);
/// let fine = resample_array(ramp.view(), [4, 8, 16], from, to, Resampling::LOGITS);
/// assert_eq!(fine[[0, 0, 7]], 3.25);
/// # Ok::<(), liseg_volume::Error>(())
/// ```
pub fn resample_array(
    data: ArrayView3<'_, f32>,
    new_shape: [usize; 3],
    from: Spacing,
    to: Spacing,
    how: Resampling,
) -> Array3<f32> {
    if data.shape() == new_shape.as_slice() {
        return data.as_standard_layout().into_owned();
    }
    if data.is_empty() || new_shape.contains(&0) {
        return Array3::zeros(new_shape);
    }
    resize::resize(data, new_shape, from, to, how)
}

/// Resamples labels `[z, y, x]` to `new_shape`; the spacings only decide about thick slices.
///
/// Each label's indicator is resized linearly and the largest wins; exact ties go to the label of
/// the nearest voxel if it is among the tied ones, else to the smallest (batchgenerators 0.25.5).
/// Signed labels work: nnU-Net's −1 for "outside" is a label of its own. An array that keeps its
/// shape is returned as it is; one without voxels gives an array of shape (0, 0, 0).
pub fn resample_labels_array<L: Copy + Ord + Send + Sync>(
    labels: ArrayView3<'_, L>,
    new_shape: [usize; 3],
    from: Spacing,
    to: Spacing,
    separate_z: SeparateZ,
) -> Array3<L> {
    if labels.shape() == new_shape.as_slice() {
        return labels.as_standard_layout().into_owned();
    }
    if labels.is_empty() {
        return Array3::from_shape_vec((0, 0, 0), Vec::new()).unwrap_or_else(|_| labels.to_owned());
    }
    labels::resize(labels, new_shape, from, to, separate_z)
}

/// Resamples an image to another spacing with [`Resampling::IMAGE`], over the same extent in the
/// patient.
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::TooLarge`] when the spacings would
/// ask for more voxels than any scanner makes.
pub fn resample_image(volume: &Volume<f32>, to: Spacing) -> Result<Volume<f32>> {
    crate::summary::check_finite(volume.data())?;
    let (from, shape) = (volume.spacing(), volume.shape());
    let new_shape = checked_shape(shape, from, to)?;
    let data = resample_array(volume.data(), new_shape, from, to, Resampling::IMAGE);
    Ok(Volume::new(
        data,
        volume.affine().resampled(shape, new_shape)?,
    )?)
}

/// Resamples a label map to another spacing by [`resample_labels_array`], over the same extent in
/// the patient.
///
/// # Errors
/// [`Error::TooLarge`] as for [`resample_image`].
pub fn resample_labels(volume: &LabelMap, to: Spacing) -> Result<LabelMap> {
    let (from, shape) = (volume.spacing(), volume.shape());
    let new_shape = checked_shape(shape, from, to)?;
    let data = resample_labels_array(volume.data(), new_shape, from, to, SeparateZ::Auto);
    Ok(Volume::new(
        data,
        volume.affine().resampled(shape, new_shape)?,
    )?)
}

/// [`resampled_shape`] with at least one voxel per axis, unless it is absurd.
fn checked_shape(shape: [usize; 3], from: Spacing, to: Spacing) -> Result<[usize; 3]> {
    let new_shape = resampled_shape(shape, from, to).map(|n| n.max(1));
    let voxels = new_shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    match voxels {
        Some(voxels) if voxels <= LARGEST => Ok(new_shape),
        _ => Err(Error::TooLarge {
            from,
            to,
            shape,
            new_shape,
            limit: LARGEST,
        }),
    }
}

/// A permutation that brings `axis` to the front, and its inverse.
fn axis_first(axis: usize) -> ([usize; 3], [usize; 3]) {
    match axis {
        0 => ([0, 1, 2], [0, 1, 2]),
        1 => ([1, 0, 2], [1, 0, 2]),
        _ => ([2, 0, 1], [1, 2, 0]),
    }
}

/// For nearest interpolation between slices: the slices that are used, each once, and for every new
/// slice its place among them.
fn used_slices(old: usize, new: usize) -> (Vec<usize>, Vec<usize>) {
    let index = operator::nearest(old, new);
    let mut used = index.clone();
    used.dedup();
    let mut place = 0;
    let places = index
        .iter()
        .map(|i| {
            if used[place] != *i {
                place += 1;
            }
            place
        })
        .collect();
    (used, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Affine;
    use proptest::prelude::*;

    fn tilted(shape: [usize; 3], f: impl Fn([f64; 3]) -> f32) -> Volume<f32> {
        let (s, c) = 0.2f64.sin_cos();
        let affine = Affine::from_columns(
            [-c, -s, 0.0],
            [-1.2 * s, 1.2 * c, 0.0],
            [0.0, 0.0, 2.5],
            [40.0, -30.0, 20.0],
        )
        .unwrap();
        let data = Array3::from_shape_fn(shape, |(z, y, x)| {
            f(affine.voxel_to_world([z as f64, y as f64, x as f64]))
        });
        Volume::new(data, affine).unwrap()
    }

    #[test]
    fn resampled_voxels_stay_at_their_place_in_the_patient() {
        // Values are a linear function of the world position, which splines reproduce away from the
        // edges.
        let field = |[x, y, z]: [f64; 3]| (2.0 * x - y + 0.5 * z) as f32;
        let volume = tilted([30, 34, 38], field);
        let fine = resample_image(&volume, Spacing::new(1.9, 1.0, 1.3).unwrap()).unwrap();
        assert_eq!(fine.shape(), [39, 41, 29]);
        for ((z, y, x), &value) in fine.data().indexed_iter() {
            let inner = [(z, 39), (y, 41), (x, 29)]
                .iter()
                .all(|&(i, n)| i > 11 && i + 12 < n);
            let world = fine.affine().voxel_to_world([z as f64, y as f64, x as f64]);
            if inner {
                assert!((value - field(world)).abs() < 1e-3, "{value} at {world:?}");
            }
        }
    }

    #[test]
    fn labels_keep_their_grid_with_the_image() {
        let image = tilted([10, 12, 14], |[x, y, _]| (x + y) as f32);
        let labels = image.map(|&v| u8::from(v > 0.0) * 3);
        let to = Spacing::new(4.0, 0.9, 1.1).unwrap();
        let (image, labels) = (
            resample_image(&image, to).unwrap(),
            resample_labels(&labels, to).unwrap(),
        );
        assert!(image.geometry().is_within(&labels.geometry(), 1e-9));
        assert!(labels.data().iter().all(|&l| l == 0 || l == 3));
    }

    #[test]
    fn images_with_nan_are_refused() {
        let mut volume = tilted([4, 4, 4], |_| 1.0);
        volume.data_mut()[[1, 2, 3]] = f32::NAN;
        let found = resample_image(&volume, Spacing::ISOTROPIC_1MM);
        assert!(matches!(
            found,
            Err(Error::NotFinite {
                count: 1,
                first: [1, 2, 3]
            })
        ));
    }

    #[test]
    fn a_vanishing_axis_keeps_one_voxel() {
        let volume = tilted([1, 8, 8], |_| 1.0);
        let flat = resample_image(&volume, Spacing::new(9.0, 1.0, 1.0).unwrap()).unwrap();
        assert_eq!(flat.shape()[0], 1);
    }

    #[test]
    fn nearly_equal_coarse_axes_are_not_separated() {
        let noisy = Spacing::new(4.0, 4.000_000_1, 1.0).unwrap();
        assert_eq!(separate_axis(noisy, noisy, SeparateZ::Auto), None);
    }

    fn interpolations() -> impl Strategy<Value = Interpolation> {
        prop_oneof![
            Just(Interpolation::Nearest),
            Just(Interpolation::Linear),
            Just(Interpolation::Cubic)
        ]
    }

    proptest! {
        #[test]
        fn results_stay_in_range_and_do_not_depend_on_memory_order(
            shape in [1usize..9, 1..9, 1..20], new in [1usize..12, 1..12, 1..24], z in 0.5..9.0f64,
            interpolation in interpolations(), along_z in interpolations(), seed: u32,
        ) {
            let mut state = seed;
            let data = Array3::from_shape_simple_fn(shape, || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as f32
            });
            let (low, high) = data.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            let (from, to) = (Spacing::new(z, 1.0, 1.0).unwrap(), Spacing::ISOTROPIC_1MM);
            // Cubic between slices is not clipped in the reference either.
            let along_z = if along_z == Interpolation::Cubic { Interpolation::Linear } else { along_z };
            let how = Resampling { interpolation, along_z, separate_z: SeparateZ::Auto };
            let result = resample_array(data.view(), new, from, to, how);
            prop_assert_eq!(result.shape(), new.as_slice());
            prop_assert!(result.iter().all(|v| (low..=high).contains(v)));

            let mut columns = Array3::zeros(ndarray::ShapeBuilder::f(shape));
            columns.assign(&data);
            prop_assert_eq!(&resample_array(columns.view(), new, from, to, how), &result);

            let labels = data.mapv(|v| v as u32 as u8 % 3);
            let a = resample_labels_array(labels.view(), new, from, to, SeparateZ::Auto);
            let columns = columns.mapv(|v| v as u32 as u8 % 3);
            prop_assert_eq!(&a, &resample_labels_array(columns.view(), new, from, to, SeparateZ::Auto));
            prop_assert!(a.iter().all(|l| labels.iter().any(|m| m == l)));
        }
    }
}
