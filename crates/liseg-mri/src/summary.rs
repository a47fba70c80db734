//! What the intensities of an image look like.

use crate::{Error, Result};
use ndarray::{ArrayView1, ArrayView3, Axis};
use rayon::prelude::*;

/// Range, mean and sum of an image's finite voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Smallest value.
    pub minimum: f32,
    /// Largest value.
    pub maximum: f32,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sum, in f64.
    pub sum: f64,
    /// How many voxels are finite.
    pub finite: usize,
    /// How many voxels are NaN or infinite; they are left out of everything else.
    pub non_finite: usize,
}

/// Summarises the intensities of an image `[z, y, x]`; `None` when no voxel is finite.
///
/// Sums are taken in f64, slice by slice, and do not depend on the number of threads.
pub fn summarize(data: ArrayView3<'_, f32>) -> Option<Summary> {
    let parts: Vec<_> = data
        .axis_iter(Axis(0))
        .into_par_iter()
        .map(|slice| {
            let mut part = (f32::INFINITY, f32::NEG_INFINITY, 0.0f64, 0usize);
            slice
                .rows()
                .into_iter()
                .for_each(|row| add_row(&mut part, row));
            part
        })
        .collect();
    let mut summary = Summary {
        minimum: f32::INFINITY,
        maximum: f32::NEG_INFINITY,
        mean: 0.0,
        sum: 0.0,
        finite: 0,
        non_finite: 0,
    };
    for (minimum, maximum, sum, finite) in parts {
        summary.minimum = summary.minimum.min(minimum);
        summary.maximum = summary.maximum.max(maximum);
        summary.sum += sum;
        summary.finite += finite;
    }
    summary.non_finite = data.len() - summary.finite;
    summary.mean = summary.sum / summary.finite as f64;
    (summary.finite > 0).then_some(summary)
}

fn add_row(part: &mut (f32, f32, f64, usize), row: ArrayView1<'_, f32>) {
    for &v in row.iter().filter(|v| v.is_finite()) {
        part.0 = part.0.min(v);
        part.1 = part.1.max(v);
        part.2 += f64::from(v);
        part.3 += 1;
    }
}

/// Fails when a voxel is NaN or infinite, with how many and where the first is.
pub(crate) fn check_finite(data: ArrayView3<'_, f32>) -> Result<()> {
    let count: usize = data
        .axis_iter(Axis(0))
        .into_par_iter()
        .map(|slice| slice.iter().filter(|v| !v.is_finite()).count())
        .sum();
    match data
        .indexed_iter()
        .filter(|_| count > 0)
        .find(|(_, v)| !v.is_finite())
    {
        Some(((z, y, x), _)) => Err(Error::NotFinite {
            count,
            first: [z, y, x],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn leaves_out_what_is_not_finite_and_counts_it() {
        let mut data = Array3::from_shape_fn((2, 2, 2), |(z, y, x)| (4 * z + 2 * y + x) as f32);
        data[[0, 0, 0]] = f32::NAN;
        data[[1, 1, 1]] = f32::INFINITY;
        let summary = summarize(data.view()).unwrap();
        assert_eq!((summary.minimum, summary.maximum), (1.0, 6.0));
        assert!((summary.sum - 21.0).abs() < 1e-12 && (summary.mean - 3.5).abs() < 1e-12);
        assert_eq!((summary.finite, summary.non_finite), (6, 2));
        assert!(matches!(
            check_finite(data.view()),
            Err(Error::NotFinite {
                count: 2,
                first: [0, 0, 0]
            })
        ));
        assert_eq!(
            summarize(Array3::from_elem((1, 1, 1), f32::NAN).view()),
            None
        );
    }
}
