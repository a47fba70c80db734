//! Connected components.
//!
//! A mask is read once into runs, the maximal stretches of object voxels along x. Runs that touch
//! are joined by union-find, in storage order, so that the work after the reading grows with the
//! number of runs (some ten thousand for an organ) and not with the number of voxels.

use crate::Connectivity;
use liseg_volume::Region;
use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;
use std::ops::Range;

/// Which component to keep when several are the largest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The one whose first voxel comes first in storage order (x fastest).
    #[default]
    First,
    /// All of them, as nnU-Net does.
    All,
}

/// The connected components of a mask, numbered from 1 by their first voxel in storage order (z
/// slowest, x fastest).
///
/// Held as runs along x: a label volume is made only when [`Components::labels`] is called.
#[derive(Debug, Clone)]
pub struct Components {
    shape: [usize; 3],
    /// Runs of row (z, y): `row_ends[row - 1]..row_ends[row]` with row = z·height + y.
    row_ends: Vec<usize>,
    /// Start and end along x.
    runs: Vec<Range<usize>>,
    /// Component of each run, counted from 0.
    component: Vec<usize>,
    sizes: Vec<usize>,
    regions: Vec<Region>,
}

/// Finds the connected components of the `true` voxels.
///
/// # Shapes
/// `mask`: `[z, y, x]`, in any memory layout.
///
/// # Examples
/// ```
/// use liseg_morphology::{Connectivity, connected_components};
/// use ndarray::arr3;
///
/// let mask = arr3(&[[[true, false, false], [false, true, true]]]);
/// assert_eq!(connected_components(mask.view(), Connectivity::Face).sizes(), [1, 2]);
/// assert_eq!(connected_components(mask.view(), Connectivity::Edge).sizes(), [3]);
/// ```
pub fn connected_components(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Components {
    Components::find(mask, |&inside| inside, Adjacency::In3d(connectivity))
}

/// The mask without any but its largest component.
///
/// An empty mask stays empty. Ties are broken by `ties`; by default the first component in storage
/// order wins. Field practice joins voxels over corners ([`Connectivity::Vertex`], as nnU-Net).
pub fn keep_largest(
    mask: ArrayView3<'_, bool>,
    connectivity: Connectivity,
    ties: Ties,
) -> Array3<bool> {
    let components = connected_components(mask, connectivity);
    let keep = components.largest(ties);
    components.to_mask(|label| keep.contains(&label))
}

/// The mask without components of fewer than `minimum_voxels` voxels.
///
/// For a threshold in millilitres divide it by [`Affine::voxel_volume_mm3`] / 1000.
///
/// [`Affine::voxel_volume_mm3`]: liseg_volume::Affine::voxel_volume_mm3
pub fn remove_small(
    mask: ArrayView3<'_, bool>,
    connectivity: Connectivity,
    minimum_voxels: usize,
) -> Array3<bool> {
    let components = connected_components(mask, connectivity);
    components.to_mask(|label| components.sizes[label - 1] >= minimum_voxels)
}

/// The smallest box that holds every voxel that satisfies `inside`; `None` when there is none.
pub fn bounding_region<T: Sync>(
    voxels: ArrayView3<'_, T>,
    inside: impl Fn(&T) -> bool + Sync,
) -> Option<Region> {
    let slices = voxels.outer_iter().into_par_iter().enumerate();
    let boxes = slices.filter_map(|(z, slice)| {
        let mut found: Option<Region> = None;
        for (y, row) in slice.outer_iter().enumerate() {
            let Some(first) = row.iter().position(&inside) else {
                continue;
            };
            let last = row.iter().rposition(&inside).unwrap_or(first);
            let row = Region {
                start: [z, y, first],
                end: [z + 1, y + 1, last + 1],
            };
            found = Some(found.map_or(row, |found| enclosing(found, row)));
        }
        found
    });
    boxes.reduce_with(enclosing)
}

/// The smallest box around two boxes.
fn enclosing(a: Region, b: Region) -> Region {
    Region {
        start: std::array::from_fn(|k| a.start[k].min(b.start[k])),
        end: std::array::from_fn(|k| a.end[k].max(b.end[k])),
    }
}

/// Which rows of runs can touch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Adjacency {
    /// Neighbours in space.
    In3d(Connectivity),
    /// Neighbours in the same slice only.
    InSlices(Connectivity),
}

impl Adjacency {
    /// The rows before a row whose runs it can touch: how many slices up, the step along y, and how
    /// far neighbours reach along x.
    fn earlier_rows(self) -> impl Iterator<Item = (usize, isize, usize)> {
        let (connectivity, depth) = match self {
            Self::In3d(connectivity) => (connectivity, 1),
            Self::InSlices(connectivity) => (connectivity, 0),
        };
        [(0, -1), (1, -1), (1, 0), (1, 1)]
            .into_iter()
            .filter(move |&(dz, _)| dz <= depth)
            .filter_map(move |(dz, dy)| {
                let reach = connectivity.reach(dz as isize, dy)?;
                Some((dz, dy, reach))
            })
    }
}

impl Components {
    pub(crate) fn find<T: Sync>(
        voxels: ArrayView3<'_, T>,
        inside: impl Fn(&T) -> bool + Sync,
        adjacency: Adjacency,
    ) -> Self {
        let (depth, height, width) = voxels.dim();
        let (runs, row_ends) = read_runs(voxels, inside);
        let mut component = join_runs(&runs, &row_ends, [depth, height], adjacency);

        // A parent comes before its child and a root is the first run of its component, so one
        // pass turns parents into components, numbered in storage order.
        let mut count = 0;
        for run in 0..component.len() {
            let parent = component[run];
            component[run] = if parent == run {
                count += 1;
                count - 1
            } else {
                component[parent]
            };
        }

        let nowhere = Region {
            start: [usize::MAX; 3],
            end: [0; 3],
        };
        let (mut sizes, mut regions) = (vec![0; count], vec![nowhere; count]);
        let mut found = Self {
            shape: [depth, height, width],
            row_ends,
            runs,
            component,
            sizes: Vec::new(),
            regions: Vec::new(),
        };
        found.for_each_run(|[z, y], run, label| {
            sizes[label - 1] += run.len();
            let region = &mut regions[label - 1];
            *region = enclosing(
                *region,
                Region {
                    start: [z, y, run.start],
                    end: [z + 1, y + 1, run.end],
                },
            );
        });
        found.sizes = sizes;
        found.regions = regions;
        found
    }

    /// Number of components.
    pub fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Number of voxels of each component; that of label 1 comes first.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The box around each component; that of label 1 comes first.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The centroid of each component, (z, y, x) in voxels; that of label 1 comes first.
    ///
    /// A voxel's centre has whole coordinates, as in an affine.
    pub fn centroids(&self) -> Vec<[f64; 3]> {
        let mut sums = vec![[0.0; 3]; self.count()];
        self.for_each_run(|[z, y], run, label| {
            let n = run.len() as f64;
            let middle = (run.start + run.end - 1) as f64 / 2.0;
            let sum = &mut sums[label - 1];
            for (sum, at) in sum.iter_mut().zip([z as f64, y as f64, middle]) {
                *sum += n * at;
            }
        });
        let sizes = self.sizes.iter().map(|&size| size as f64);
        let centroids = sums.into_iter().zip(sizes);
        centroids.map(|(sum, size)| sum.map(|s| s / size)).collect()
    }

    /// The label of the largest component, or the labels of all that are tied for it; empty when
    /// there is no component.
    pub fn largest(&self, ties: Ties) -> Vec<usize> {
        let Some(&most) = self.sizes.iter().max() else {
            return Vec::new();
        };
        let labels = (1..).zip(&self.sizes).filter(|&(_, &size)| size == most);
        let labels = labels.map(|(label, _)| label);
        match ties {
            Ties::First => labels.take(1).collect(),
            Ties::All => labels.collect(),
        }
    }

    /// The label of every voxel, `[z, y, x]`: 0 outside the mask, else 1 to [`Components::count`].
    ///
    /// Labels beyond `u32::MAX` would all read `u32::MAX`; that takes a volume of more than eight
    /// thousand million voxels.
    pub fn labels(&self) -> Array3<u32> {
        let mut labels = Array3::zeros(self.shape);
        self.paint(labels.view_mut(), |label| {
            Some(u32::try_from(label).unwrap_or(u32::MAX))
        });
        labels
    }

    /// The mask of the components whose label `keep` accepts, `[z, y, x]`.
    pub fn to_mask(&self, keep: impl Fn(usize) -> bool + Sync) -> Array3<bool> {
        let mut mask = Array3::from_elem(self.shape, false);
        self.paint(mask.view_mut(), |label| keep(label).then_some(true));
        mask
    }

    /// Writes `value(label)` on the voxels of every component for which there is one.
    pub(crate) fn paint<T: Copy + Send + Sync>(
        &self,
        mut voxels: ArrayViewMut3<'_, T>,
        value: impl Fn(usize) -> Option<T> + Sync,
    ) {
        let slices = voxels.outer_iter_mut().into_par_iter().enumerate();
        slices.for_each(|(z, mut slice)| {
            for (y, mut row) in slice.outer_iter_mut().enumerate() {
                for run in self.runs_of_row(z * self.shape[1] + y) {
                    let Some(value) = value(self.component[run] + 1) else {
                        continue;
                    };
                    let run = self.runs[run].clone();
                    match row.as_slice_mut() {
                        Some(row) => row[run].fill(value),
                        None => row.slice_axis_mut(Axis(0), run.into()).fill(value),
                    }
                }
            }
        });
    }

    /// Calls `visit` with (z, y), the run along x and the label, in storage order.
    pub(crate) fn for_each_run(&self, mut visit: impl FnMut([usize; 2], Range<usize>, usize)) {
        let height = self.shape[1];
        for row in 0..self.row_ends.len() {
            for run in self.runs_of_row(row) {
                let place = [row / height, row % height];
                visit(place, self.runs[run].clone(), self.component[run] + 1);
            }
        }
    }

    fn runs_of_row(&self, row: usize) -> Range<usize> {
        runs_of_row(&self.row_ends, row)
    }
}

fn runs_of_row(row_ends: &[usize], row: usize) -> Range<usize> {
    let start = if row == 0 { 0 } else { row_ends[row - 1] };
    start..row_ends[row]
}

/// The runs of all rows in storage order, and for each row how many runs there are up to its end.
fn read_runs<T: Sync>(
    voxels: ArrayView3<'_, T>,
    inside: impl Fn(&T) -> bool + Sync,
) -> (Vec<Range<usize>>, Vec<usize>) {
    let slices: Vec<_> = voxels
        .outer_iter()
        .into_par_iter()
        .map(|slice| {
            let mut runs = Vec::new();
            let mut row_ends = Vec::with_capacity(slice.nrows());
            let mut bytes = Vec::with_capacity(slice.ncols());
            for row in slice.outer_iter() {
                bytes.clear();
                let byte = |voxel: &T| u8::from(inside(voxel));
                // The compiler makes vectors of the loop over a slice.
                match row.to_slice() {
                    Some(row) => bytes.extend(row.iter().map(byte)),
                    None => bytes.extend(row.iter().map(byte)),
                }
                let mut at = 0;
                // Searched sixteen and more bytes at a time.
                while let Some(start) = memchr::memchr(1, &bytes[at..]).map(|n| at + n) {
                    at = memchr::memchr(0, &bytes[start..]).map_or(bytes.len(), |n| start + n);
                    runs.push(start..at);
                }
                row_ends.push(runs.len());
            }
            (runs, row_ends)
        })
        .collect();
    let total = slices.iter().map(|(runs, _)| runs.len()).sum();
    let mut all_runs = Vec::with_capacity(total);
    let mut all_ends = Vec::with_capacity(voxels.len_of(Axis(0)) * voxels.len_of(Axis(1)));
    for (runs, row_ends) in slices {
        all_ends.extend(row_ends.into_iter().map(|end| all_runs.len() + end));
        all_runs.extend(runs);
    }
    (all_runs, all_ends)
}

/// Joins touching runs; gives each run a parent that is itself or an earlier run.
fn join_runs(
    runs: &[Range<usize>],
    row_ends: &[usize],
    [depth, height]: [usize; 2],
    adjacency: Adjacency,
) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..runs.len()).collect();
    let earlier: Vec<_> = adjacency.earlier_rows().collect();
    for z in 0..depth {
        for y in 0..height {
            let row = runs_of_row(row_ends, z * height + y);
            if row.is_empty() {
                continue;
            }
            for &(dz, dy, reach) in &earlier {
                let (Some(z), Some(y)) = (z.checked_sub(dz), y.checked_add_signed(dy)) else {
                    continue;
                };
                if y < height {
                    let other = runs_of_row(row_ends, z * height + y);
                    join_rows(runs, row.clone(), other, reach, &mut parents);
                }
            }
        }
    }
    parents
}

/// Joins the touching runs of two rows by walking along both.
fn join_rows(
    runs: &[Range<usize>],
    mut row: Range<usize>,
    mut other: Range<usize>,
    reach: usize,
    parents: &mut [usize],
) {
    while !row.is_empty() && !other.is_empty() {
        let (a, b) = (&runs[row.start], &runs[other.start]);
        if a.start < b.end + reach && b.start < a.end + reach {
            let (first, second) = (root(parents, row.start), root(parents, other.start));
            parents[first.max(second)] = first.min(second);
        }
        // The run that ends first touches nothing further on.
        if a.end < b.end {
            row.start += 1;
        } else {
            other.start += 1;
        }
    }
}

/// The first run of the component so far, halving the path to it on the way.
fn root(parents: &mut [usize], mut run: usize) -> usize {
    while parents[run] != run {
        parents[run] = parents[parents[run]];
        run = parents[run];
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ALL, flood_fill, masks};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn components_equal_those_of_a_flood_fill(mask in masks()) {
            for connectivity in ALL {
                let components = connected_components(mask.view(), connectivity);
                let expected = flood_fill(mask.view(), connectivity);
                prop_assert_eq!(&components.labels(), &expected);
                for (index, region) in components.regions().iter().enumerate() {
                    let label = index as u32 + 1;
                    prop_assert_eq!(Some(*region), bounding_region(expected.view(), |&l| l == label));
                    let size = expected.iter().filter(|&&l| l == label).count();
                    prop_assert_eq!(components.sizes()[index], size);
                    let mut sum = [0.0; 3];
                    for ((z, y, x), _) in expected.indexed_iter().filter(|&(_, &l)| l == label) {
                        sum = [sum[0] + z as f64, sum[1] + y as f64, sum[2] + x as f64];
                    }
                    for (a, b) in components.centroids()[index].iter().zip(sum) {
                        prop_assert!((a - b / size as f64).abs() < 1e-9);
                    }
                }
            }
        }

        #[test]
        fn components_partition_the_foreground_whatever_the_order_of_axes(mask in masks()) {
            for connectivity in ALL {
                let components = connected_components(mask.view(), connectivity);
                let voxels = mask.iter().filter(|&&v| v).count();
                prop_assert_eq!(components.sizes().iter().sum::<usize>(), voxels);
                let labels = components.labels();
                prop_assert!(labels.iter().zip(&mask).all(|(&l, &inside)| (l > 0) == inside));

                // The same voxels belong together when the axes are exchanged.
                let turned = mask.view().permuted_axes([2, 0, 1]);
                let turned = connected_components(turned, connectivity).labels();
                let turned = turned.permuted_axes([1, 2, 0]);
                let pairs: std::collections::BTreeSet<_> =
                    labels.iter().copied().zip(turned.iter().copied()).collect();
                prop_assert_eq!(pairs.iter().filter(|p| p.0 > 0).count(), components.count());
            }
        }

        #[test]
        fn the_largest_is_a_part_and_keeping_it_twice_changes_nothing(mask in masks()) {
            for (connectivity, ties) in ALL.into_iter().flat_map(|c| [(c, Ties::First), (c, Ties::All)]) {
                let kept = keep_largest(mask.view(), connectivity, ties);
                prop_assert!(kept.iter().zip(&mask).all(|(&kept, &inside)| inside || !kept));
                prop_assert_eq!(kept.iter().any(|&v| v), mask.iter().any(|&v| v));
                prop_assert_eq!(&keep_largest(kept.view(), connectivity, ties), &kept);
                if ties == Ties::First {
                    prop_assert!(connected_components(kept.view(), connectivity).count() <= 1);
                }
            }
        }

        #[test]
        fn small_components_go(mask in masks(), minimum in 0usize..6) {
            let kept = remove_small(mask.view(), Connectivity::Face, minimum);
            let before = connected_components(mask.view(), Connectivity::Face);
            let after = connected_components(kept.view(), Connectivity::Face);
            let expected: Vec<_> = before.sizes().iter().copied().filter(|&s| s >= minimum).collect();
            prop_assert_eq!(after.sizes(), expected);
        }
    }

    #[test]
    fn the_first_of_equal_components_wins() {
        let mut mask = Array3::from_elem((1, 1, 5), true);
        mask[[0, 0, 2]] = false;
        let first = keep_largest(mask.view(), Connectivity::Vertex, Ties::First);
        assert_eq!(
            first.into_raw_vec_and_offset().0,
            [true, true, false, false, false]
        );
        let all = keep_largest(mask.view(), Connectivity::Vertex, Ties::All);
        assert_eq!(all, mask);
    }
}
