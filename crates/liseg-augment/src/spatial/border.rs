//! Points at the border of the input.

use super::row::{Point, share_of, whole};
use super::vote::{corner_weights, is_upper};

/// A point of which some corners may be no voxels. Corners count in bits z, y, x.
#[derive(Debug)]
pub(super) struct Border {
    /// Where the corners lie in memory; anywhere in the input for one that is no voxel.
    places: [usize; 8],
    /// Whether they are voxels.
    known: [bool; 8],
    pub(super) share: [f32; 3],
    pub(super) odd: [bool; 3],
}

impl Border {
    #[inline]
    pub(super) fn new(shape: [usize; 3], point: Point) -> Self {
        let (mut lower, mut upper) = ([0usize; 3], [0usize; 3]);
        let (mut lower_known, mut upper_known) = ([false; 3], [false; 3]);
        let mut stride = 1;
        for axis in [2, 1, 0] {
            let (below, sides) = (whole(point[axis]), shape[axis] as i64);
            let last = sides - 1;
            lower[axis] = below.clamp(0, last) as usize * stride;
            upper[axis] = (below + 1).clamp(0, last) as usize * stride;
            lower_known[axis] = (0..sides).contains(&below);
            upper_known[axis] = (0..sides).contains(&(below + 1));
            stride *= shape[axis];
        }
        let (mut places, mut known) = ([0; 8], [true; 8]);
        for corner in 0..8 {
            for axis in 0..3 {
                let is_upper = is_upper(corner, axis);
                places[corner] += if is_upper { upper[axis] } else { lower[axis] };
                known[corner] &= if is_upper {
                    upper_known[axis]
                } else {
                    lower_known[axis]
                };
            }
        }
        Self {
            places,
            known,
            share: point.map(share_of),
            odd: point.map(|coordinate| whole(coordinate) & 1 == 1),
        }
    }

    /// What the corners hold, `outside` those that are no voxels.
    #[inline]
    pub(super) fn corners<T: Copy>(&self, input: &[T], outside: T) -> [T; 8] {
        let mut corners = [outside; 8];
        for (corner, value) in corners.iter_mut().enumerate() {
            let found = input[self.places[corner]];
            *value = if self.known[corner] { found } else { outside };
        }
        corners
    }

    /// What the corners hold where all voxels hold one value.
    #[inline]
    pub(super) fn corners_of<T: Copy>(&self, value: T, outside: T) -> [T; 8] {
        self.known.map(|known| if known { value } else { outside })
    }

    /// Interpolates, with 0 outside.
    #[inline]
    pub(super) fn value(&self, input: &[f32]) -> f32 {
        let weights = corner_weights(self.share);
        let corners = self.corners(input, 0.0);
        let weighted = corners
            .iter()
            .zip(weights)
            .map(|(value, weight)| value * weight);
        weighted.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::fixed;
    use super::*;

    #[test]
    fn corners_that_are_no_voxels_are_outside() {
        let shape = [2, 2, 4];
        let image: Vec<f32> = (0..16u8).map(f32::from).collect();
        let numbers: Vec<i8> = (0..16).collect();
        // Half a voxel before the first one: only the upper corners along x are voxels.
        let border = Border::new(shape, [0.5, 0.25, -0.5].map(fixed));
        let expected = [-1, 0, -1, 4, -1, 8, -1, 12];
        assert_eq!(border.corners(&numbers, -1), expected);
        assert_eq!(border.corners_of(7, -1), [-1, 7, -1, 7, -1, 7, -1, 7]);
        assert_eq!(border.odd, [false, false, true]);
        // At (0.5, 0.25, 0) the image is 5; half of it is left.
        assert!((border.value(&image) - 2.5).abs() < 1e-6);

        // Half a voxel behind the last slice and on the last row.
        let border = Border::new(shape, [1.5, 1.0, 2.0].map(fixed));
        let expected = [14, 15, -1, -1, -1, -1, -1, -1];
        assert_eq!(border.corners(&numbers, -1), expected);
        assert!((border.value(&image) - 7.0).abs() < 1e-6);
    }
}
