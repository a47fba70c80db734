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

mod labels;
mod operator;
mod resize;

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
