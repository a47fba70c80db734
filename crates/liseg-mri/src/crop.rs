//! The part of an image that has content.

use liseg_volume::Region;
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

/// The smallest box that holds every non-zero voxel of an image `[z, y, x]`; the whole image when
/// all are zero.
///
/// Negative and NaN voxels are not zero. nnU-Net fills holes of the non-zero mask first; a hole lies
/// inside the mask's box, so that does not change the box.
pub fn nonzero_region(data: ArrayView3<'_, f32>) -> Region {
    let (nz, ny, nx) = data.dim();
    // Per slice: the first and last row and column with content.
    let slices: Vec<Option<[usize; 4]>> = data
        .axis_iter(Axis(0))
        .into_par_iter()
        .map(|slice| {
            let mut found: Option<[usize; 4]> = None;
            for (y, row) in slice.rows().into_iter().enumerate() {
                let Some(first) = row.iter().position(|&v| v != 0.0) else {
                    continue;
                };
                let last = row.iter().rposition(|&v| v != 0.0).unwrap_or(first);
                found = Some(match found {
                    None => [y, y, first, last],
                    Some([top, _, left, right]) => [top, y, left.min(first), right.max(last)],
                });
            }
            found
        })
        .collect();
    let mut region: Option<Region> = None;
    for (z, [top, bottom, left, right]) in slices
        .into_iter()
        .enumerate()
        .filter_map(|(z, s)| s.map(|s| (z, s)))
    {
        let slice = Region {
            start: [z, top, left],
            end: [z + 1, bottom + 1, right + 1],
        };
        region = Some(region.map_or(slice, |r| Region {
            start: std::array::from_fn(|a| r.start[a].min(slice.start[a])),
            end: std::array::from_fn(|a| r.end[a].max(slice.end[a])),
        }));
    }
    region.unwrap_or(Region::full([nz, ny, nx]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn finds_the_box_and_keeps_empty_images_whole() {
        let mut data = Array3::<f32>::zeros((4, 5, 6));
        assert_eq!(nonzero_region(data.view()), Region::full([4, 5, 6]));
        data[[1, 4, 2]] = -1.0;
        data[[2, 3, 5]] = f32::NAN;
        let region = nonzero_region(data.view());
        assert_eq!(
            region,
            Region {
                start: [1, 3, 2],
                end: [3, 5, 6]
            }
        );
    }
}
