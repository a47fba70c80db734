//! Cleaning the foreground of a label map in place.

use crate::components::{Adjacency, Components};
use crate::fill::Holes;
use crate::{Connectivity, Ties};
use liseg_volume::LabelMap;

/// Sets every foreground voxel (label > 0) outside the largest component of the foreground to 0;
/// returns how many voxels that removed.
///
/// Labels of the kept component stay as they are. See [`keep_largest`](crate::keep_largest).
pub fn keep_largest_foreground(
    labels: &mut LabelMap,
    connectivity: Connectivity,
    ties: Ties,
) -> usize {
    let components = foreground(labels, connectivity);
    let keep = components.largest(ties);
    clear(labels, &components, |label| !keep.contains(&label))
}

/// Sets the components of the foreground (label > 0) that have fewer than `minimum_voxels` voxels
/// to 0; returns how many voxels that removed.
pub fn remove_small_foreground(
    labels: &mut LabelMap,
    connectivity: Connectivity,
    minimum_voxels: usize,
) -> usize {
    let components = foreground(labels, connectivity);
    clear(labels, &components, |label| {
        components.sizes()[label - 1] < minimum_voxels
    })
}

/// Fills the holes of the foreground (label > 0); returns how many voxels that added.
///
/// A hole takes the label that most of the foreground voxels facing it have, the smaller one when
/// two are as many. What a hole is: see [`fill_holes`](crate::fill_holes).
pub fn fill_foreground_holes(labels: &mut LabelMap, connectivity: Connectivity) -> usize {
    let data = labels.data();
    let holes = Holes::in_3d(data, |&label| label > 0, connectivity);
    let count = holes.background.count();
    if !(1..=count).any(|label| holes.is_hole(label)) {
        return 0;
    }
    // Faces between each hole and each label around it.
    let mut votes = vec![None; count];
    holes.background.for_each_run(|[z, y], run, label| {
        if !holes.is_hole(label) {
            return;
        }
        let votes: &mut [usize; 256] = votes[label - 1].get_or_insert([0; 256]);
        // A hole never touches the edge, so all six neighbours exist.
        for x in run.clone() {
            for place in [[z - 1, y, x], [z + 1, y, x], [z, y - 1, x], [z, y + 1, x]] {
                votes[usize::from(data[place])] += 1;
            }
        }
        votes[usize::from(data[[z, y, run.start - 1]])] += 1;
        votes[usize::from(data[[z, y, run.end]])] += 1;
    });
    let winners: Vec<Option<u8>> = votes
        .iter()
        .map(|votes| {
            // `max_by_key` takes the last of equals: go from the largest label down to 1.
            let labels = (1..=u8::MAX).rev();
            votes.and_then(|votes| labels.max_by_key(|&label| votes[usize::from(label)]))
        })
        .collect();
    let sizes = holes.background.sizes().iter().zip(&winners);
    let added = sizes
        .filter_map(|(size, winner)| winner.map(|_| size))
        .sum();
    let paint = |label: usize| winners[label - 1];
    holes.background.paint(labels.data_mut(), paint);
    added
}

fn foreground(labels: &LabelMap, connectivity: Connectivity) -> Components {
    Components::find(
        labels.data(),
        |&label| label > 0,
        Adjacency::In3d(connectivity),
    )
}

/// Sets the components that `remove` names to 0; returns how many voxels they have.
fn clear(
    labels: &mut LabelMap,
    components: &Components,
    remove: impl Fn(usize) -> bool + Sync,
) -> usize {
    components.paint(labels.data_mut(), |label| remove(label).then_some(0));
    (1..)
        .zip(components.sizes())
        .filter(|&(label, _)| remove(label))
        .map(|(_, size)| size)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ALL, masks};
    use crate::{fill_holes, keep_largest, remove_small};
    use liseg_volume::{Affine, Spacing};
    use ndarray::Array3;
    use proptest::prelude::*;

    fn label_map(data: Array3<u8>) -> LabelMap {
        LabelMap::new(data, Affine::from_spacing(Spacing::ISOTROPIC_1MM)).unwrap()
    }

    proptest! {
        #[test]
        fn foreground_follows_the_masks(mask in masks()) {
            let map = label_map(mask.map(|&v| u8::from(v)));
            for connectivity in ALL {
                let mut kept = map.clone();
                let removed = keep_largest_foreground(&mut kept, connectivity, Ties::First);
                prop_assert_eq!(kept.data().map(|&v| v > 0), keep_largest(mask.view(), connectivity, Ties::First));
                let voxels = |m: &LabelMap| m.data().iter().filter(|&&v| v > 0).count();
                prop_assert_eq!(voxels(&map) - voxels(&kept), removed);

                let mut filled = map.clone();
                let added = fill_foreground_holes(&mut filled, connectivity);
                prop_assert_eq!(filled.data().map(|&v| v > 0), fill_holes(mask.view(), connectivity));
                prop_assert_eq!(voxels(&filled) - voxels(&map), added);

                let mut large = map.clone();
                let removed = remove_small_foreground(&mut large, connectivity, 3);
                prop_assert_eq!(large.data().map(|&v| v > 0), remove_small(mask.view(), connectivity, 3));
                prop_assert_eq!(voxels(&map) - voxels(&large), removed);
            }
        }
    }

    #[test]
    fn a_hole_takes_the_label_around_it() {
        let mut data = Array3::from_elem((3, 3, 4), 1);
        data.slice_mut(ndarray::s![.., .., 2..]).fill(2);
        data[[1, 1, 1]] = 0; // five faces to label 1, one to label 2
        let mut map = label_map(data);
        assert_eq!(fill_foreground_holes(&mut map, Connectivity::Vertex), 1);
        assert_eq!(map.data()[[1, 1, 1]], 1);
    }
}
