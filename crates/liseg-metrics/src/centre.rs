//! Centres of mass.

use crate::confusion::Counts;
use crate::{Empty, Error, Result};
use liseg_volume::{Region, Spacing};
use ndarray::{ArrayView3, s};

/// Between the centres of mass of two masks on one grid, in mm. All their voxels lie in `region`.
pub(crate) fn centre_distance<T>(
    prediction: ArrayView3<'_, T>,
    reference: ArrayView3<'_, T>,
    is_object: impl Fn(&T) -> bool,
    (counts, region): (&Counts, Option<Region>),
    spacing: Spacing,
) -> Result<f64> {
    let region = match (counts.empty(), region) {
        (None, Some(region)) => region,
        (empty, _) => return Err(Error::EmptyMask(empty.unwrap_or(Empty::Both))),
    };
    let a = centre(prediction, &is_object, region);
    let b = centre(reference, &is_object, region);
    let steps = spacing.zyx();
    let squared = (0..3).map(|axis| ((a[axis] - b[axis]) * steps[axis]).powi(2));
    Ok(squared.sum::<f64>().sqrt())
}

/// The mean index of the object's voxels, (z, y, x), counted from the start of the region.
fn centre<T>(
    voxels: ArrayView3<'_, T>,
    is_object: &impl Fn(&T) -> bool,
    Region { start, end }: Region,
) -> [f64; 3] {
    let inside = voxels.slice(s![start[0]..end[0], start[1]..end[1], start[2]..end[2]]);
    let (mut sums, mut count) = ([0u64; 3], 0u64);
    for (z, slice) in inside.outer_iter().enumerate() {
        for (y, row) in slice.outer_iter().enumerate() {
            let (mut in_row, mut along_row) = (0u64, 0u64);
            for (x, voxel) in row.iter().enumerate() {
                let one = u64::from(is_object(voxel));
                in_row += one;
                along_row += one * x as u64;
            }
            sums[0] += in_row * z as u64;
            sums[1] += in_row * y as u64;
            sums[2] += along_row;
            count += in_row;
        }
    }
    sums.map(|sum| sum as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confusion::compare;
    use crate::testing::pairs;
    use ndarray::Array3;
    use proptest::prelude::*;

    fn distance(a: &Array3<bool>, b: &Array3<bool>) -> Result<f64> {
        let (counts, region) = compare(a.view(), b.view(), |&v| v)?;
        let spacing = Spacing::new(4.0, 1.5, 1.0).unwrap();
        centre_distance(a.view(), b.view(), |&v| v, (&counts, region), spacing)
    }

    #[test]
    fn a_shift_moves_the_centre_by_its_length() {
        let mut a = Array3::from_elem((6, 9, 9), false);
        a.slice_mut(s![0..2, 1..4, 2..7]).fill(true);
        let mut b = Array3::from_elem((6, 9, 9), false);
        b.slice_mut(s![1..3, 3..6, 2..7]).fill(true);
        assert!(
            (distance(&a, &b).unwrap() - 5.0).abs() < 1e-12,
            "4 and 2 × 1.5 mm"
        );
    }

    proptest! {
        #[test]
        fn centres_are_as_far_apart_either_way((a, b) in pairs()) {
            match (distance(&a, &b), distance(&b, &a)) {
                (Ok(there), Ok(back)) => prop_assert_eq!(there, back),
                (there, back) => prop_assert!(there.is_err() && back.is_err()),
            }
            if a.iter().any(|&v| v) {
                prop_assert_eq!(distance(&a, &a).unwrap(), 0.0);
            }
        }
    }
}
