//! Filling holes.

use crate::Connectivity;
use crate::components::{Adjacency, Components};
use liseg_volume::Region;
use ndarray::{Array3, ArrayView3};

/// The mask with its holes filled.
///
/// A hole is a part of the background that no path through background voxels joins to the edge of
/// the image. `connectivity` is that of the object; background voxels are joined by its
/// [`dual`](Connectivity::dual), so that an object joined over corners also holds back what could
/// only leak through an edge or a corner. A tunnel is open and stays; in an image of one slice
/// everything touches the edge (see [`fill_holes_in_slices`]).
///
/// # Shapes
/// `mask`: `[z, y, x]`; the result has the same shape.
///
/// # Source
/// With [`Connectivity::Vertex`] as SciPy's `binary_fill_holes` and SimpleITK's
/// `BinaryFillhole`; with [`Connectivity::Face`] as MONAI's `FillHoles`.
///
/// # Examples
/// ```
/// use liseg_morphology::{Connectivity, fill_holes};
/// use ndarray::Array3;
///
/// let mut mask = Array3::from_elem((3, 3, 3), true);
/// mask[[1, 1, 1]] = false;
/// assert!(fill_holes(mask.view(), Connectivity::Vertex).iter().all(|&inside| inside));
/// ```
pub fn fill_holes(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Array3<bool> {
    fill(mask, &Holes::in_3d(mask, |&inside| inside, connectivity))
}

/// The mask with the holes of every slice (z) filled on their own.
///
/// As [`fill_holes`] in two dimensions. It also closes tunnels along z, and with them concavities
/// that are real: choose it on purpose.
pub fn fill_holes_in_slices(
    mask: ArrayView3<'_, bool>,
    connectivity: Connectivity,
) -> Array3<bool> {
    fill(
        mask,
        &Holes::in_slices(mask, |&inside| inside, connectivity),
    )
}

fn fill(mask: ArrayView3<'_, bool>, holes: &Holes) -> Array3<bool> {
    let mut filled = mask.to_owned();
    let value = |label| holes.is_hole(label).then_some(true);
    holes.background.paint(filled.view_mut(), value);
    filled
}

/// The parts of the background, and which of them are holes.
pub(crate) struct Holes {
    pub(crate) background: Components,
    enclosed: Vec<bool>,
}

impl Holes {
    pub(crate) fn in_3d<T: Sync>(
        voxels: ArrayView3<'_, T>,
        inside: impl Fn(&T) -> bool + Sync,
        connectivity: Connectivity,
    ) -> Self {
        Self::find(voxels, inside, Adjacency::In3d(connectivity.dual()), 0)
    }

    fn in_slices<T: Sync>(
        voxels: ArrayView3<'_, T>,
        inside: impl Fn(&T) -> bool + Sync,
        connectivity: Connectivity,
    ) -> Self {
        Self::find(voxels, inside, Adjacency::InSlices(connectivity.dual()), 1)
    }

    /// Parts of the background that touch no edge of the image along `first_axis..3`.
    fn find<T: Sync>(
        voxels: ArrayView3<'_, T>,
        inside: impl Fn(&T) -> bool + Sync,
        adjacency: Adjacency,
        first_axis: usize,
    ) -> Self {
        let (depth, height, width) = voxels.dim();
        let shape = [depth, height, width];
        let background = Components::find(voxels, |voxel| !inside(voxel), adjacency);
        let is_enclosed = |region: &Region| {
            (first_axis..3).all(|axis| region.start[axis] > 0 && region.end[axis] < shape[axis])
        };
        let enclosed = background.regions().iter().map(is_enclosed).collect();
        Self {
            background,
            enclosed,
        }
    }

    /// Whether the part of the background with this label is a hole.
    pub(crate) fn is_hole(&self, label: usize) -> bool {
        self.enclosed[label - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ALL, flood_fill, masks};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fills_what_does_not_reach_the_edge(mask in masks()) {
            for connectivity in ALL {
                let filled = fill_holes(mask.view(), connectivity);
                let labels = flood_fill(mask.map(|v| !v).view(), connectivity.dual());
                let (depth, height, width) = mask.dim();
                let at_edge = |(z, y, x): (usize, usize, usize)| {
                    z == 0 || y == 0 || x == 0 || z + 1 == depth || y + 1 == height || x + 1 == width
                };
                let open: Vec<u32> = labels.indexed_iter()
                    .filter(|&(place, &label)| label > 0 && at_edge(place))
                    .map(|(_, &label)| label)
                    .collect();
                for (label, &filled) in labels.iter().zip(&filled) {
                    prop_assert_eq!(filled, *label == 0 || !open.contains(label));
                }
            }
        }

        #[test]
        fn filling_holes_twice_changes_nothing(mask in masks()) {
            for connectivity in ALL {
                let filled = fill_holes(mask.view(), connectivity);
                prop_assert_eq!(&fill_holes(filled.view(), connectivity), &filled);
                let filled = fill_holes_in_slices(mask.view(), connectivity);
                prop_assert_eq!(&fill_holes_in_slices(filled.view(), connectivity), &filled);
            }
        }
    }

    #[test]
    fn a_tunnel_is_closed_only_slice_by_slice() {
        let mut mask = Array3::from_elem((4, 3, 3), true);
        mask.slice_mut(ndarray::s![.., 1, 1]).fill(false);
        assert_eq!(fill_holes(mask.view(), Connectivity::Vertex), mask);
        let filled = fill_holes_in_slices(mask.view(), Connectivity::Vertex);
        assert!(filled.iter().all(|&inside| inside));
    }
}
