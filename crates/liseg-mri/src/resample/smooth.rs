//! Removing what a coarser grid cannot hold.

use ndarray::{Array3, ArrayView3, Axis, Zip};

/// The kernel ends after this many standard deviations, as in SciPy.
const TRUNCATE: f64 = 4.0;

/// Smooths an image `[z, y, x]` so that it can be resampled to a coarser `new_shape` without aliasing.
///
/// A Gaussian along each axis that shrinks, with a standard deviation of `(old / new − 1) / 2` voxels
/// and the image continued by its edge values: the rule of scikit-image's `resize`. Axes that keep
/// their size or grow are left alone. nnU-Net does not smooth, so neither does any other function here.
/// NaN spreads over the kernel's width.
pub fn smooth_for(data: ArrayView3<'_, f32>, new_shape: [usize; 3]) -> Array3<f32> {
    let mut result = data.as_standard_layout().into_owned();
    for (axis, new) in new_shape.into_iter().enumerate() {
        let ratio = data.len_of(Axis(axis)) as f64 / new.max(1) as f64;
        if ratio > 1.0 {
            result = smooth_axis(result.view(), Axis(axis), (ratio - 1.0) / 2.0);
        }
    }
    result
}

fn smooth_axis(data: ArrayView3<'_, f32>, axis: Axis, sigma: f64) -> Array3<f32> {
    let kernel = gaussian(sigma);
    let radius = kernel.len() / 2;
    let last = data.len_of(axis).saturating_sub(1);
    let mut result = Array3::zeros(data.dim());
    let lines = Zip::from(result.lanes_mut(axis)).and(data.lanes(axis));
    lines.par_for_each(|mut out, line| {
        for (k, out) in out.iter_mut().enumerate() {
            let value = |i: usize| f64::from(line[(k + i).saturating_sub(radius).min(last)]);
            let sum: f64 = kernel.iter().enumerate().map(|(i, w)| w * value(i)).sum();
            *out = sum as f32;
        }
    });
    result
}

/// Weights of a Gaussian that sum to one, centred.
fn gaussian(sigma: f64) -> Vec<f64> {
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let weight = |i: i64| (-0.5 * (i as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    (-radius..=radius).map(|i| weight(i) / sum).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn growing_changes_nothing_and_constants_stay() {
        let data = Array3::from_shape_fn((4, 5, 6), |(z, y, x)| (z * y * x) as f32);
        assert_eq!(smooth_for(data.view(), [4, 10, 7]), data);
        let flat = Array3::from_elem((8, 9, 10), 3.0f32);
        let smooth = smooth_for(flat.view(), [2, 3, 5]);
        assert!(smooth.iter().all(|v| (v - 3.0).abs() < 1e-6));
    }

    #[test]
    fn an_impulse_becomes_the_gaussian_of_half_the_excess() {
        let mut data = Array3::zeros((1, 1, 41));
        data[[0, 0, 20]] = 1.0f32;
        let smooth = smooth_for(data.view(), [1, 1, 10]);
        // 41 / 10: σ = 1.55. The variance of what is left is σ² within the truncation.
        let variance: f64 = (smooth.indexed_iter())
            .map(|((_, _, x), &v)| f64::from(v) * (x as f64 - 20.0).powi(2))
            .sum();
        assert!((variance - 1.55 * 1.55).abs() < 0.01, "{variance}");
        assert_eq!(smooth[[0, 0, 18]], smooth[[0, 0, 22]]);
    }

    #[test]
    fn a_pattern_finer_than_the_new_grid_vanishes() {
        let stripes = Array3::from_shape_fn((1, 1, 64), |(_, _, x)| (x % 2) as f32);
        let smooth = smooth_for(stripes.view(), [1, 1, 16]);
        assert!(
            smooth
                .iter()
                .skip(8)
                .take(48)
                .all(|v| (v - 0.5).abs() < 0.01)
        );
    }
}
