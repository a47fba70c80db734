//! Bringing intensities to a common range.
//!
//! MRI has no absolute scale: the same tissue differs by a factor between scanners and phases. Every
//! image is therefore normalised by its own statistics. Formulas follow nnU-Net 2.8.1; sums are
//! taken in f64 and do not depend on the number of threads.

mod histogram;
mod nyul;
mod scheme;

pub use histogram::HistogramReference;
pub use nyul::{Foreground, Nyul, NyulConfig, NyulFit};
pub use scheme::{NormalizationTable, Step};

use crate::summary::{check_finite, summarize};
use crate::{Error, Result};
use ndarray::{ArrayView3, ArrayViewMut3, Axis, Zip};
use rayon::prelude::*;

/// Standard deviations below this count as this, so that flat images do not divide by zero
/// (nnU-Net 2.8.1).
const SMALLEST_DEVIATION: f64 = 1e-8;

/// Mean and population standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
}

/// Subtracts the mean of an image `[z, y, x]` and divides by its standard deviation:
/// `(x − mean) / max(std, 1e-8)`.
///
/// Returns the statistics before. A constant image becomes exactly zero.
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite; the image is then unchanged.
/// [`Error::Selection`] for an image without voxels.
pub fn z_score(data: &mut ArrayViewMut3<'_, f32>) -> Result<Statistics> {
    check_finite(data.view())?;
    let statistics = statistics(data.view(), None)?;
    scale(data, None, statistics);
    Ok(statistics)
}

/// [`z_score`] with the statistics of the voxels where `mask` is set; only these change.
///
/// nnU-Net v2 does this where images were cropped out of much background. (Version 1 also sets the
/// rest to zero.)
///
/// # Errors
/// As [`z_score`]; [`Error::Shape`] when the mask has another shape, [`Error::Selection`] when it
/// selects nothing.
pub fn z_score_masked(
    data: &mut ArrayViewMut3<'_, f32>,
    mask: ArrayView3<'_, bool>,
) -> Result<Statistics> {
    if data.dim() != mask.dim() {
        let shape = |(z, y, x)| [z, y, x];
        return Err(Error::Shape {
            expected: shape(data.dim()),
            found: shape(mask.dim()),
        });
    }
    check_finite(data.view())?;
    let statistics = statistics(data.view(), Some(mask))?;
    scale(data, Some(mask), statistics);
    Ok(statistics)
}

/// A z-score that a little very bright matter does not move: mean and standard deviation are taken
/// with everything above the `upper` percentile counted as that percentile, and the result is
/// clipped to ±`limit` of these deviations.
///
/// On T2 a stomach full of water, bowel or the glare of a coil holds a few per cent of the voxels and
/// most of the variance; after [`z_score`] the liver of that patient is as dark as muscle in
/// others. 90 and 5 suit abdominal MRI: the parenchyma then keeps its place from patient to
/// patient, and spleen and kidney stay below the clip.
///
/// Returns the statistics used. Where more than `upper` per cent of the voxels are equal, such as
/// empty background, the statistics are those of [`z_score`]; a constant image becomes zero.
///
/// # Errors
/// [`Error::Selection`] for an `upper` outside 0..=100, a `limit` that is not positive, or an image
/// without voxels; [`Error::NotFinite`] when voxels are NaN or infinite. The image is then unchanged.
pub fn robust_z_score(
    data: &mut ArrayViewMut3<'_, f32>,
    upper: f64,
    limit: f32,
) -> Result<Statistics> {
    if !(0.0..=100.0).contains(&upper) || limit.is_nan() || limit <= 0.0 {
        return Err(Error::Selection {
            reason: format!(
                "a percentile of {upper} with a limit of {limit} deviations; expected 0 to 100 and a \
                 positive number"
            ),
        });
    }
    let [high] = percentiles(data.view(), [upper])?;
    let mut found = statistics(data.mapv(|v| v.min(high)).view(), None)?;
    if found.std < SMALLEST_DEVIATION {
        found = statistics(data.view(), None)?;
    }
    scale(data, None, found);
    data.par_mapv_inplace(|v| v.clamp(-limit, limit));
    Ok(found)
}

/// [`z_score`] with the statistics of the voxels that are not exactly zero; only these change.
///
/// For images whose background was set to zero, as after skull stripping or masking.
///
/// # Errors
/// As [`z_score`]; [`Error::Selection`] when every voxel is zero.
pub fn z_score_nonzero(data: &mut ArrayViewMut3<'_, f32>) -> Result<Statistics> {
    let mask = data.mapv(|v| v.abs() > 0.0);
    check_finite(data.view())?;
    z_score_masked(data, mask.view())
}

/// Scales an image linearly so that its least voxel becomes `low` and its greatest `high`; returns
/// the range before.
///
/// A constant image becomes `low` throughout.
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] for an image without
/// voxels or limits that are not finite and in ascending order. The image is then unchanged.
pub fn min_max(data: &mut ArrayViewMut3<'_, f32>, [low, high]: [f32; 2]) -> Result<[f32; 2]> {
    if !(low.is_finite() && high.is_finite() && low <= high) {
        return Err(Error::Selection {
            reason: format!("limits {low} and {high} are not finite and in ascending order"),
        });
    }
    check_finite(data.view())?;
    let summary = summarize(data.view()).ok_or_else(|| Error::Selection {
        reason: "an image without voxels has no range".into(),
    })?;
    let (minimum, maximum) = (f64::from(summary.minimum), f64::from(summary.maximum));
    let (from, to) = (f64::from(low), f64::from(high));
    let factor = if maximum > minimum {
        (to - from) / (maximum - minimum)
    } else {
        0.0
    };
    data.par_mapv_inplace(|v| {
        ((f64::from(v) - minimum).mul_add(factor, from) as f32).clamp(low, high)
    });
    Ok([summary.minimum, summary.maximum])
}

/// Clips an image to two of its own percentiles and returns their values.
///
/// `lower` and `upper` are percentages, 0 ≤ lower ≤ upper ≤ 100; between two ranks values are
/// interpolated linearly, as NumPy does.
///
/// # Errors
/// [`Error::Selection`] for percentages out of order or an image without voxels,
/// [`Error::NotFinite`] when voxels are NaN or infinite. The image is then unchanged.
pub fn clip_percentiles(
    data: &mut ArrayViewMut3<'_, f32>,
    lower: f64,
    upper: f64,
) -> Result<[f32; 2]> {
    if !(0.0 <= lower && lower <= upper && upper <= 100.0) {
        return Err(Error::Selection {
            reason: format!("percentiles {lower} and {upper} are not 0 ≤ lower ≤ upper ≤ 100"),
        });
    }
    let [low, high] = percentiles(data.view(), [lower, upper])?;
    data.par_mapv_inplace(|v| v.clamp(low, high));
    Ok([low, high])
}

/// Percentiles of an image, each between 0 and 100 and clamped to that range, interpolated linearly
/// between ranks.
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] for an image without
/// voxels or a percentage that is NaN.
pub fn percentiles<const N: usize>(
    data: ArrayView3<'_, f32>,
    percentages: [f64; N],
) -> Result<[f32; N]> {
    check_finite(data)?;
    if data.is_empty() || percentages.iter().any(|p| p.is_nan()) {
        return Err(Error::Selection {
            reason: format!(
                "percentiles {percentages:?} of {} voxels do not exist",
                data.len()
            ),
        });
    }
    let mut values: Vec<f32> = data.iter().copied().collect();
    let last = values.len() - 1;
    Ok(percentages.map(|percentage| {
        let rank = percentage.clamp(0.0, 100.0) / 100.0 * last as f64;
        let below = (rank.floor() as usize).min(last);
        let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
        let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
        (f64::from(low) + (rank - below as f64) * (f64::from(high) - f64::from(low))) as f32
    }))
}

/// Clips to fixed limits, then scales by given statistics: `(clip(x) − mean) / max(std, 1e-8)`.
///
/// For images with an absolute scale, as CT, where limits and statistics come from a whole data set
/// (nnU-Net's CT scheme: percentiles 0.5 and 99.5, mean and standard deviation of the foreground).
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] when the limits are
/// out of order.
pub fn clip_and_scale(
    data: &mut ArrayViewMut3<'_, f32>,
    [low, high]: [f32; 2],
    statistics: Statistics,
) -> Result<()> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::Selection {
            reason: format!("limits {low} and {high} are not in ascending order"),
        });
    }
    check_finite(data.view())?;
    data.par_mapv_inplace(|v| v.clamp(low, high));
    scale(data, None, statistics);
    Ok(())
}

/// Number, sum and least and greatest of the selected voxels of each slice, summed in order.
fn statistics(data: ArrayView3<'_, f32>, mask: Option<ArrayView3<'_, bool>>) -> Result<Statistics> {
    /// One slice's sum of `f(value)`, with count and range of the values.
    fn fold_slices(
        data: ArrayView3<'_, f32>,
        mask: Option<ArrayView3<'_, bool>>,
        f: impl Fn(f64) -> f64 + Sync,
    ) -> (usize, f64, f32, f32) {
        let empty = (0, 0.0, f32::INFINITY, f32::NEG_INFINITY);
        let add = |(n, sum, low, high): (usize, f64, f32, f32), &v: &f32| {
            (n + 1, sum + f(v.into()), v.min(low), v.max(high))
        };
        let parts: Vec<_> = (0..data.len_of(Axis(0)))
            .into_par_iter()
            .map(|z| {
                let slice = data.index_axis(Axis(0), z);
                match mask {
                    None => slice.iter().fold(empty, add),
                    Some(mask) => Zip::from(slice).and(mask.index_axis(Axis(0), z)).fold(
                        empty,
                        |part, v, &selected| if selected { add(part, v) } else { part },
                    ),
                }
            })
            .collect();
        parts.into_iter().fold(empty, |a, b| {
            (a.0 + b.0, a.1 + b.1, a.2.min(b.2), a.3.max(b.3))
        })
    }
    let (count, sum, low, high) = fold_slices(data, mask, |v| v);
    if count == 0 {
        return Err(Error::Selection {
            reason: "there is no voxel to take statistics of: the image or the mask is empty"
                .into(),
        });
    }
    if low >= high {
        // Rounding of the sum must not look like contrast.
        return Ok(Statistics {
            mean: low.into(),
            std: 0.0,
        });
    }
    let mean = sum / count as f64;
    let (_, squares, _, _) = fold_slices(data, mask, |v| (v - mean) * (v - mean));
    Ok(Statistics {
        mean,
        std: (squares / count as f64).sqrt(),
    })
}

fn scale(
    data: &mut ArrayViewMut3<'_, f32>,
    mask: Option<ArrayView3<'_, bool>>,
    Statistics { mean, std }: Statistics,
) {
    let factor = std.max(SMALLEST_DEVIATION).recip();
    let scaled = |v: f32| ((f64::from(v) - mean) * factor) as f32;
    match mask {
        None => data.par_mapv_inplace(scaled),
        Some(mask) => Zip::from(data).and(mask).par_for_each(|v, &selected| {
            if selected {
                *v = scaled(*v);
            }
        }),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn ramp() -> Array3<f32> {
        Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (20 * z + 5 * y + x) as f32)
    }

    #[test]
    fn a_z_scored_image_has_mean_0_and_deviation_1() {
        let mut data = ramp();
        let before = z_score(&mut data.view_mut()).unwrap();
        // 0..=59: mean 29.5, variance (60² − 1)/12.
        assert!((before.mean - 29.5).abs() < 1e-12);
        assert!((before.std - (3599.0f64 / 12.0).sqrt()).abs() < 1e-12);
        let after = statistics(data.view(), None).unwrap();
        assert!(after.mean.abs() < 1e-7 && (after.std - 1.0).abs() < 1e-7);
    }

    #[test]
    fn a_constant_image_becomes_zero() {
        let mut data = Array3::from_elem((7, 9, 11), 0.1f32);
        let before = z_score(&mut data.view_mut()).unwrap();
        assert!(before.std.abs() < f64::EPSILON && data.iter().all(|&v| v == 0.0));
    }

    #[test]
    fn a_little_glare_hardly_moves_a_robust_z_score() {
        let plain = Array3::from_shape_fn((4, 10, 10), |(z, y, x)| (20 * z + 5 * y + x) as f32);
        let mut dim = plain.clone();
        let mut bright = plain.clone();
        for (i, v) in bright.iter_mut().enumerate() {
            if i % 20 == 0 {
                *v = 1e4;
            }
        }
        let calm = robust_z_score(&mut dim.view_mut(), 90.0, 5.0).unwrap();
        let glare = robust_z_score(&mut bright.view_mut(), 90.0, 5.0).unwrap();
        assert!((calm.mean - glare.mean).abs() < 0.15 * calm.std);
        assert!((calm.std / glare.std - 1.0).abs() < 0.1);
        assert_eq!(bright[[0, 0, 0]], 5.0, "clipped");
        // An ordinary z-score is moved by far.
        let ordinary = statistics(
            plain.mapv(|v| if v % 20.0 == 0.0 { 1e4 } else { v }).view(),
            None,
        );
        assert!(ordinary.unwrap().std > 10.0 * calm.std);
    }

    #[test]
    fn a_robust_z_score_survives_an_image_that_is_mostly_empty() {
        let mut data = Array3::from_elem((4, 5, 5), 0.0f32);
        data[[1, 2, 3]] = 7.0;
        let found = robust_z_score(&mut data.view_mut(), 90.0, 5.0).unwrap();
        assert!((found.mean - 0.07).abs() < 1e-6 && found.std > 0.1);
        assert!(data.iter().all(|v| v.is_finite()));
        let mut flat = Array3::from_elem((4, 5, 5), 3.0f32);
        robust_z_score(&mut flat.view_mut(), 90.0, 5.0).unwrap();
        assert!(flat.iter().all(|&v| v == 0.0));
        for (upper, limit) in [(-1.0, 5.0), (101.0, 5.0), (90.0, 0.0), (90.0, f32::NAN)] {
            assert!(robust_z_score(&mut flat.view_mut(), upper, limit).is_err());
        }
    }

    #[test]
    fn nan_is_refused_and_nothing_changes() {
        let mut data = ramp();
        data[[1, 2, 3]] = f32::NAN;
        let before = data.clone();
        let error = z_score(&mut data.view_mut()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotFinite {
                    count: 1,
                    first: [1, 2, 3]
                }
            ),
            "{error}"
        );
        assert_eq!(data[[0, 0, 1]], before[[0, 0, 1]]);
    }

    #[test]
    fn a_mask_selects_what_counts_and_what_changes() {
        let mut data = ramp();
        let mask = data.mapv(|v| v < 10.0);
        let before = z_score_masked(&mut data.view_mut(), mask.view()).unwrap();
        assert!((before.mean - 4.5).abs() < 1e-12);
        assert_eq!(data[[2, 3, 4]], 59.0);
        let nothing = mask.mapv(|_| false);
        let error = z_score_masked(&mut data.view_mut(), nothing.view());
        assert!(matches!(error, Err(Error::Selection { .. })));
    }

    #[test]
    fn zeros_neither_count_nor_change() {
        let mut data = Array3::from_shape_vec((1, 1, 4), vec![0.0, 2.0, 4.0, -0.0]).unwrap();
        let before = z_score_nonzero(&mut data.view_mut()).unwrap();
        assert_eq!((before.mean, before.std), (3.0, 1.0));
        assert_eq!(data.as_slice().unwrap(), [0.0, -1.0, 1.0, 0.0]);
        let mut zeros = Array3::<f32>::zeros((2, 2, 2));
        let error = z_score_nonzero(&mut zeros.view_mut());
        assert!(matches!(error, Err(Error::Selection { .. })));
    }

    #[test]
    fn min_max_reaches_both_limits_and_flat_images_the_lower() {
        let mut data = ramp();
        let before = min_max(&mut data.view_mut(), [-1.0, 1.0]).unwrap();
        assert_eq!(before, [0.0, 59.0]);
        assert_eq!((data[[0, 0, 0]], data[[2, 3, 4]]), (-1.0, 1.0));
        let mut flat = Array3::from_elem((2, 3, 4), 7.0f32);
        min_max(&mut flat.view_mut(), [0.5, 1.0]).unwrap();
        assert!(flat.iter().all(|&v| v == 0.5));
        assert!(min_max(&mut flat.view_mut(), [1.0, 0.0]).is_err());
        flat[[0, 0, 0]] = f32::INFINITY;
        let error = min_max(&mut flat.view_mut(), [0.0, 1.0]);
        assert!(matches!(error, Err(Error::NotFinite { .. })));
    }

    proptest::proptest! {
        #[test]
        fn normalization_is_invariant_to_gain_and_offset(
            values in proptest::collection::vec(-100i16..100, 24),
            gain in 0.25f32..8.0,
            offset in -50.0f32..50.0,
        ) {
            let image = Array3::from_shape_vec((2, 3, 4), values).unwrap().mapv(f32::from);
            type Normalize = fn(&mut ArrayViewMut3<'_, f32>);
            let methods: [Normalize; 2] = [
                |data| {
                    z_score(data).unwrap();
                },
                |data| {
                    min_max(data, [0.0, 1.0]).unwrap();
                },
            ];
            for normalize in methods {
                let (mut plain, mut scaled) = (image.clone(), image.mapv(|v| gain * v + offset));
                if image.iter().all(|v| v == image.first().unwrap()) {
                    continue;
                }
                normalize(&mut plain.view_mut());
                normalize(&mut scaled.view_mut());
                for (a, b) in plain.iter().zip(&scaled) {
                    proptest::prop_assert!((a - b).abs() < 1e-3, "{a} became {b}");
                }
            }
        }
    }

    #[test]
    fn percentiles_interpolate_between_ranks() {
        let data = Array3::from_shape_vec((1, 1, 5), vec![50.0, 10.0, 40.0, 20.0, 30.0]).unwrap();
        let found = percentiles(data.view(), [0.0, 25.0, 37.5, 100.0]).unwrap();
        assert_eq!(found, [10.0, 20.0, 25.0, 50.0]);
        let mut data = data;
        assert_eq!(
            clip_percentiles(&mut data.view_mut(), 25.0, 75.0).unwrap(),
            [20.0, 40.0]
        );
        assert_eq!(data.as_slice().unwrap(), [40.0, 20.0, 40.0, 20.0, 30.0]);
        assert!(clip_percentiles(&mut data.view_mut(), 80.0, 20.0).is_err());
    }
}
