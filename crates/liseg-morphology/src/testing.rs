//! Masks to draw and slow, plain definitions to compare with, for the tests of this crate.

use crate::Connectivity;
use ndarray::{Array3, ArrayView3};
use proptest::prelude::*;

pub(crate) const ALL: [Connectivity; 3] =
    [Connectivity::Face, Connectivity::Edge, Connectivity::Vertex];

/// Masks of every density, shapes with axes of length 1 among them.
pub(crate) fn masks() -> impl Strategy<Value = Array3<bool>> {
    ([1usize..8, 1..9, 1..13], 0.0..=1.0f64).prop_flat_map(|(shape, density)| {
        let voxels = shape.iter().product::<usize>();
        prop::collection::vec(prop::bool::weighted(density), voxels)
            .prop_map(move |data| Array3::from_shape_vec(shape, data).unwrap())
    })
}

/// Offsets (z, y, x) of the neighbours of a voxel.
pub(crate) fn neighbours(connectivity: Connectivity) -> Vec<[isize; 3]> {
    let axes: isize = match connectivity {
        Connectivity::Face => 1,
        Connectivity::Edge => 2,
        Connectivity::Vertex => 3,
    };
    (0..27isize)
        .map(|k| [k / 9 - 1, k / 3 % 3 - 1, k % 3 - 1])
        .filter(|offset: &[isize; 3]| (1..=axes).contains(&offset.iter().map(|v| v.abs()).sum()))
        .collect()
}

/// Components by flood fill, numbered by their first voxel.
pub(crate) fn flood_fill(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Array3<u32> {
    let mut labels = Array3::zeros(mask.dim());
    let mut count = 0;
    for ((z, y, x), &inside) in mask.indexed_iter() {
        if !inside || labels[[z, y, x]] > 0 {
            continue;
        }
        count += 1;
        labels[[z, y, x]] = count;
        let mut open = vec![[z, y, x]];
        while let Some(place) = open.pop() {
            for offset in neighbours(connectivity) {
                let next: [usize; 3] =
                    std::array::from_fn(|a| (place[a] as isize + offset[a]) as usize);
                if mask.get(next) == Some(&true) && labels[next] == 0 {
                    labels[next] = count;
                    open.push(next);
                }
            }
        }
    }
    labels
}
