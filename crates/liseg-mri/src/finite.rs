//! Voxels that are no numbers.

use crate::Result;
use crate::summary::{check_finite, summarize};
use ndarray::ArrayViewMut3;

/// Replaces voxels that are NaN or infinite by what is background in most images: 0, or the least
/// voxel where that is below 0. Returns how many there were.
///
/// Resampling and masking programs leave a few such voxels at borders and outside the body.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite) when that is more than half of the volume, which then is no image; it is left
/// as it is.
pub fn replace_non_finite(data: &mut ArrayViewMut3<'_, f32>) -> Result<usize> {
    let error = match check_finite(data.view()) {
        Ok(()) => return Ok(0),
        Err(error) => error,
    };
    let Some(summary) = summarize(data.view()) else {
        return Err(error);
    };
    if mostly_non_finite(summary.non_finite, data.len()) {
        return Err(error);
    }
    let background = summary.minimum.min(0.0);
    data.map_inplace(|v| {
        if !v.is_finite() {
            *v = background;
        }
    });
    Ok(summary.non_finite)
}

/// Whether so many of `voxels` are no numbers that [`replace_non_finite`] refuses the volume.
pub fn mostly_non_finite(count: usize, voxels: usize) -> bool {
    count > voxels / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use ndarray::Array3;

    fn numbers(lowest: f32) -> Array3<f32> {
        Array3::from_shape_fn((2, 2, 2), |(z, y, x)| (4 * z + 2 * y + x) as f32 + lowest)
    }

    #[test]
    fn a_few_become_background() {
        for (lowest, background) in [(5.0, 0.0), (-1000.0, -999.0)] {
            let mut data = numbers(lowest);
            data[[0, 0, 0]] = f32::NAN;
            data[[1, 1, 1]] = f32::NEG_INFINITY;
            let mut expected = data.clone();
            (expected[[0, 0, 0]], expected[[1, 1, 1]]) = (background, background);
            assert_eq!(replace_non_finite(&mut data.view_mut()).unwrap(), 2);
            assert_eq!(data, expected);
            assert_eq!(replace_non_finite(&mut data.view_mut()).unwrap(), 0);
        }
    }

    #[test]
    fn a_volume_of_mostly_nothing_is_refused() {
        let mut data = numbers(0.0);
        data.iter_mut().take(4).for_each(|v| *v = f32::NAN);
        assert_eq!(replace_non_finite(&mut data.clone().view_mut()).unwrap(), 4);
        data[[1, 0, 0]] = f32::INFINITY;
        let refused = replace_non_finite(&mut data.view_mut());
        assert!(matches!(refused, Err(Error::NotFinite { count: 5, .. })));
        data.fill(f32::NAN);
        let refused = replace_non_finite(&mut data.view_mut());
        assert!(matches!(refused, Err(Error::NotFinite { count: 8, .. })));
    }
}
