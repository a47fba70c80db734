//! Boundaries of objects.

use crate::{Connectivity, Outside};
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

/// The object voxels with at least one neighbour that is not object.
///
/// Equal to the mask minus its binary erosion by the cross of that connectivity. With
/// [`Outside::Object`] the edge of the image makes no boundary, so a mask that fills the image has
/// none.
///
/// # Shapes
/// `mask`: `[z, y, x]`; the result has the same shape.
///
/// # Examples
/// ```
/// use liseg_morphology::{Connectivity, Outside, boundary};
/// use ndarray::Array3;
///
/// let mask = Array3::from_elem((3, 3, 3), true);
/// let count = |outside| {
///     let found = boundary(mask.view(), Connectivity::Face, outside);
///     found.iter().filter(|&&on| on).count()
/// };
/// assert_eq!(count(Outside::Background), 26);
/// assert_eq!(count(Outside::Object), 0);
/// ```
pub fn boundary(
    mask: ArrayView3<'_, bool>,
    connectivity: Connectivity,
    outside: Outside,
) -> Array3<bool> {
    let (depth, height, width) = mask.dim();
    let mut found = Array3::from_elem((depth, height, width), false);
    let mask = mask.as_standard_layout();
    let Some(mask) = mask.as_slice() else {
        return found; // standard layout is contiguous
    };
    if width == 0 || height == 0 {
        return found;
    }
    let row = |z: usize, y: usize| {
        let start = (z * height + y) * width;
        &mask[start..start + width]
    };
    let beyond = outside == Outside::Object;
    let slices = found.outer_iter_mut().into_par_iter().enumerate();
    slices.for_each_init(
        || vec![false; width],
        |interior, (z, mut slice)| {
            for (y, mut found) in slice.outer_iter_mut().enumerate() {
                let own = row(z, y);
                if !own.contains(&true) {
                    continue;
                }
                // A voxel is interior when it and all its neighbours are object.
                interior.copy_from_slice(own);
                for (dz, dy) in OFFSETS {
                    let Some(reach) = connectivity.reach(dz, dy) else {
                        continue;
                    };
                    let place = (z.checked_add_signed(dz), y.checked_add_signed(dy));
                    match place {
                        (Some(z), Some(y)) if z < depth && y < height => {
                            and_row(interior, row(z, y), reach, beyond);
                        }
                        _ if beyond => {}
                        _ => interior.fill(false),
                    }
                }
                for ((found, &own), &interior) in found.iter_mut().zip(own).zip(&*interior) {
                    *found = own & !interior;
                }
            }
        },
    );
    found
}

/// Offsets (z, y) of the rows around a row, itself among them.
const OFFSETS: [(isize, isize); 9] = [
    (0, 0),
    (0, -1),
    (0, 1),
    (-1, 0),
    (1, 0),
    (-1, -1),
    (-1, 1),
    (1, -1),
    (1, 1),
];

/// Keeps `interior[x]` only where `row[x]` is object and, with a reach of 1, its neighbours in the
/// row are too. Whole rows at a time, so that the compiler can use vectors.
fn and_row(interior: &mut [bool], row: &[bool], reach: usize, beyond: bool) {
    let width = row.len();
    for (interior, &value) in interior.iter_mut().zip(row) {
        *interior &= value;
    }
    if reach > 0 {
        interior[0] &= beyond;
        interior[width - 1] &= beyond;
        for (interior, &value) in interior[1..].iter_mut().zip(row) {
            *interior &= value;
        }
        for (interior, &value) in interior.iter_mut().zip(&row[1..]) {
            *interior &= value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ALL, masks, neighbours};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_its_definition(mask in masks()) {
            for (connectivity, outside) in ALL.into_iter().flat_map(|c| [(c, Outside::Background), (c, Outside::Object)]) {
                let found = boundary(mask.view(), connectivity, outside);
                for ((z, y, x), &inside) in mask.indexed_iter() {
                    let open = neighbours(connectivity).into_iter().any(|[dz, dy, dx]| {
                        let place = [z as isize + dz, y as isize + dy, x as isize + dx].map(|v| v as usize);
                        mask.get(place).map_or(outside == Outside::Background, |&v| !v)
                    });
                    prop_assert_eq!(found[[z, y, x]], inside && open);
                }
            }
        }
    }
}
