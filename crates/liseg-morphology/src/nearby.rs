//! Distances from few points to few points.
//!
//! Two surfaces have some ten thousand voxels where their volumes have millions. A k-d tree (Bentley
//! 1975) over one of them answers for each point of the other without looking at the volume. Points
//! are asked for in storage order, so that each begins with the neighbour's answer as a bound, which
//! leaves only a few leaves to look into.

use rayon::prelude::*;

/// Points of a leaf: compared one by one faster than a tree is descended.
const LEAF: usize = 12;

/// Queries answered by one thread in a row.
const RUN: usize = 1024;

/// Points parted by one thread.
const ALONE: usize = 4096;

/// A voxel, (z, y, x).
pub(crate) type Point = [i32; 3];

/// Where a range of points is parted: those before its middle lie at `at` or below along `axis`, the
/// others at `at` or above.
#[derive(Clone, Copy, Default)]
struct Split {
    axis: u8,
    at: i32,
}

/// A balanced k-d tree: the points in an order in which every range is parted at its middle, along
/// the axis that it is longest in.
struct Tree {
    points: Vec<Point>,
    /// The split of each range, at the place of its middle.
    splits: Vec<Split>,
    /// Millimetres along z, y and x.
    spacing: [f64; 3],
}

impl Tree {
    fn new(mut points: Vec<Point>, spacing: [f64; 3]) -> Self {
        let mut splits = vec![Split::default(); points.len()];
        part(&mut points, &mut splits, spacing);
        Self {
            points,
            splits,
            spacing,
        }
    }

    /// Squared distance in mm²; sums in the order z, y, x.
    fn squared(&self, a: Point, b: Point) -> f64 {
        let along = |axis: usize| {
            let d = self.spacing[axis] * f64::from(a[axis] - b[axis]);
            d * d
        };
        along(0) + along(1) + along(2)
    }

    /// Improves `best`, the place of the nearest point so far and its squared distance.
    fn search(&self, query: Point, start: usize, end: usize, best: &mut (usize, f64)) {
        if end - start <= LEAF {
            for place in start..end {
                let squared = self.squared(query, self.points[place]);
                if squared < best.1 {
                    *best = (place, squared);
                }
            }
            return;
        }
        let middle = start + (end - start) / 2;
        let Split { axis, at } = self.splits[middle];
        let axis = usize::from(axis);
        let beyond = self.spacing[axis] * f64::from(query[axis] - at);
        let (near, far) = if beyond < 0.0 {
            ((start, middle), (middle, end))
        } else {
            ((middle, end), (start, middle))
        };
        self.search(query, near.0, near.1, best);
        if beyond * beyond < best.1 {
            self.search(query, far.0, far.1, best);
        }
    }
}

fn part(points: &mut [Point], splits: &mut [Split], spacing: [f64; 3]) {
    if points.len() <= LEAF {
        return;
    }
    let extent = |axis: usize| {
        let values = points.iter().map(|p| p[axis]);
        let (low, high) = values.fold((i32::MAX, i32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        spacing[axis] * f64::from(high - low)
    };
    let extents = [extent(0), extent(1), extent(2)];
    let axis = (0..3).fold(0, |a, b| if extents[b] > extents[a] { b } else { a });
    let middle = points.len() / 2;
    let (_, at, _) = points.select_nth_unstable_by_key(middle, |p| p[axis]);
    splits[middle] = Split {
        axis: axis as u8,
        at: at[axis],
    };
    // The middle of the upper half lies further on: no place has two splits.
    let (low, high) = points.split_at_mut(middle);
    let (low_splits, high_splits) = splits.split_at_mut(middle);
    if low.len() > ALONE {
        rayon::join(
            || part(low, low_splits, spacing),
            || part(high, high_splits, spacing),
        );
    } else {
        part(low, low_splits, spacing);
        part(high, high_splits, spacing);
    }
}

/// Squared distances in mm² from each query to the nearest target, in the order of the queries; +∞
/// without targets.
pub(crate) fn squared_distances(
    targets: Vec<Point>,
    queries: &[Point],
    spacing: [f64; 3],
) -> Vec<f64> {
    let tree = Tree::new(targets, spacing);
    let count = tree.points.len();
    let mut squared = vec![f64::INFINITY; queries.len()];
    if count == 0 {
        return squared;
    }
    let runs = squared.par_chunks_mut(RUN).zip(queries.par_chunks(RUN));
    runs.for_each(|(squared, queries)| {
        let mut nearest = 0;
        for (squared, &query) in squared.iter_mut().zip(queries) {
            let mut best = (nearest, tree.squared(query, tree.points[nearest]));
            if best.1 > 0.0 {
                tree.search(query, 0, count, &mut best);
            }
            (nearest, *squared) = best;
        }
    });
    squared
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(most: usize) -> impl Strategy<Value = Vec<Point>> {
        prop::collection::vec([0..30i32, 0..20, 0..40], 0..=most)
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_comparing_all_finds(
            targets in points(400),
            queries in points(100),
            s in [0.2..9.0f64, 0.2..9.0, 0.2..9.0],
        ) {
            let found = squared_distances(targets.clone(), &queries, s);
            let tree = Tree::new(Vec::new(), s);
            for (query, found) in queries.iter().zip(found) {
                let all = targets.iter().map(|t| tree.squared(*query, *t));
                prop_assert!(all.fold(f64::INFINITY, f64::min).total_cmp(&found).is_eq());
            }
        }
    }

    #[test]
    fn many_equal_points_make_a_finite_tree() {
        let found = squared_distances(vec![[1, 2, 3]; 500], &[[1, 2, 5], [1, 2, 3]], [1.0; 3]);
        assert_eq!(found, [4.0, 0.0]);
    }
}
