//! The exact Euclidean distance transform.
//!
//! The transform is separable. Along x two sweeps give the distance to the nearest target of the
//! row. Along y, and then along z, every line takes the lower envelope of the parabolas
//! f(j) + s²·(i − j)² that its voxels j carry (Felzenszwalb and Huttenlocher 2012); which parabolas
//! belong to the envelope is decided without a division by the test of Maurer, Qi and Raghavan
//! (2003). Every step is linear in the number of voxels and exact up to rounding in f64.
//!
//! Time goes into memory: a slice stays in the cache for both of its passes, and lines across
//! slices are gathered and put back eight at a time, the width of one cache line.

use crate::nearby::{self, Point};
use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, Axis, Zip, s};
use rayon::prelude::*;

/// Lines processed together: eight f64 fill one cache line of 64 bytes.
const LINES: usize = 8;

/// Squared distance from every voxel to the nearest voxel that is `true`, in mm².
///
/// 0 on `true` voxels; +∞ everywhere when there is none. Distances run from centre to centre:
/// d²(i) = min_{j: mask(j)} Σ_a s_a²·(i_a − j_a)².
///
/// # Shapes and units
/// `mask`: `[z, y, x]`, in any memory layout; the result has the same shape.
///
/// # Source
/// Felzenszwalb and Huttenlocher 2012; Maurer, Qi and Raghavan 2003. Equal to SciPy's
/// `distance_transform_edt` of the inverted mask to rounding, save where there is no target: SciPy
/// then measures to a voxel that does not exist.
///
/// # Examples
/// ```
/// use liseg_morphology::squared_distance_to;
/// use liseg_volume::Spacing;
/// use ndarray::Array3;
///
/// let mut mask = Array3::from_elem((2, 3, 4), false);
/// mask[[0, 0, 0]] = true;
/// let squared = squared_distance_to(mask.view(), Spacing::new(5.0, 1.0, 1.0)?);
/// assert_eq!(squared[[1, 2, 3]], 25.0 + 4.0 + 9.0);
/// # Ok::<(), liseg_volume::Error>(())
/// ```
pub fn squared_distance_to(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f64> {
    squared_distance_where(mask, |&inside| inside, spacing)
}

/// Squared distance from every voxel to the nearest voxel that satisfies `is_target`, in mm².
///
/// As [`squared_distance_to`], for voxels of any type, without making a mask first.
pub fn squared_distance_where<T: Sync>(
    voxels: ArrayView3<'_, T>,
    is_target: impl Fn(&T) -> bool + Sync,
    spacing: Spacing,
) -> Array3<f64> {
    let mut squared = squared_distance_in_slices(voxels, is_target, spacing);
    if squared.len_of(Axis(0)) > 1 {
        squared
            .axis_iter_mut(Axis(1))
            .into_par_iter()
            .for_each_init(Lines::default, |lines, plane| {
                lines.transform(plane, spacing.z());
            });
    }
    squared
}

/// Squared distances to the nearest `true` voxel of `targets`, in mm², of the voxels that are
/// `true` in `queries` alone: one value for each, in storage order (z slowest, x fastest).
///
/// Cheaper than [`squared_distance_to`] when few voxels are asked for, as on surfaces: where both
/// masks are sparse a k-d tree answers, else the transform, along z only where it is asked for. +∞
/// when there is no target.
///
/// # Shapes and units
/// Both masks: `[z, y, x]`, of one shape.
///
/// # Panics
/// When the shapes differ.
pub fn squared_distances_at(
    targets: ArrayView3<'_, bool>,
    queries: ArrayView3<'_, bool>,
    spacing: Spacing,
) -> Vec<f64> {
    assert_eq!(
        targets.dim(),
        queries.dim(),
        "targets and queries must share one grid"
    );
    let asked = points(queries);
    let sparse = targets.len() / SPARSE;
    if asked.len() < sparse {
        let targets = points(targets);
        if targets.len() < sparse {
            return nearby::squared_distances(targets, &asked, spacing.zyx());
        }
    }
    let squared = squared_distance_in_slices(targets, |&inside| inside, spacing);
    let mut answers = Array3::from_elem(queries.dim(), 0.0);
    answers
        .axis_iter_mut(Axis(1))
        .into_par_iter()
        .zip(squared.axis_iter(Axis(1)))
        .zip(queries.axis_iter(Axis(1)))
        .for_each_init(Lines::default, |lines, ((answers, plane), asked)| {
            lines.answer(plane, asked, spacing.z(), answers);
        });
    let asked = asked.iter();
    let index = |point: &Point| point.map(|k| usize::try_from(k).unwrap_or_default());
    asked.map(|point| answers[index(point)]).collect()
}

/// Masks with one `true` voxel in so many, or fewer, are sparse: above it the transform is faster.
const SPARSE: usize = 24;

/// The `true` voxels of a mask in storage order.
fn points(mask: ArrayView3<'_, bool>) -> Vec<Point> {
    let number = |k: usize| i32::try_from(k).unwrap_or(i32::MAX);
    let slices = mask.outer_iter().into_par_iter().enumerate();
    let slices = slices.map(|(z, slice)| {
        let (mut found, mut bytes) = (Vec::new(), Vec::with_capacity(slice.ncols()));
        for (y, row) in slice.outer_iter().enumerate() {
            bytes.clear();
            match row.to_slice() {
                Some(row) => bytes.extend(row.iter().map(|&inside| u8::from(inside))),
                None => bytes.extend(row.iter().map(|&inside| u8::from(inside))),
            }
            // Most rows have few: found sixteen and more bytes at a time.
            let inside = memchr::memchr_iter(1, &bytes);
            found.extend(inside.map(|x| [z, y, x].map(number)));
        }
        found
    });
    slices.collect::<Vec<_>>().concat()
}

/// Distance to the surface of the object, in mm, negative inside.
///
/// Outside the object: the distance to the nearest object voxel. Inside: minus the distance to the
/// nearest background voxel. Never 0, and it jumps by one voxel's size across the surface. +∞
/// everywhere when there is no object, −∞ everywhere when there is no background.
///
/// # Shapes and units
/// `mask`: `[z, y, x]`; the result has the same shape.
pub fn signed_distance(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f64> {
    let mut distance = squared_distance_where(mask, |&inside| inside, spacing);
    let to_background = squared_distance_where(mask, |&inside| !inside, spacing);
    // One of the two terms is 0 at every voxel.
    Zip::from(&mut distance)
        .and(&to_background)
        .par_for_each(|d, &inner| *d = d.sqrt() - inner.sqrt());
    distance
}

/// The transform inside each slice: along x, then along y.
fn squared_distance_in_slices<T: Sync>(
    voxels: ArrayView3<'_, T>,
    is_target: impl Fn(&T) -> bool + Sync,
    spacing: Spacing,
) -> Array3<f64> {
    let mut squared = Array3::zeros(voxels.dim());
    squared
        .outer_iter_mut()
        .into_par_iter()
        .zip(voxels.outer_iter())
        .for_each_init(Lines::default, |lines, (mut slice, voxels)| {
            let mut any = false;
            for (row, voxels) in slice.outer_iter_mut().zip(voxels.outer_iter()) {
                any |= along_x(row.into_slice(), voxels, &is_target, spacing.x());
            }
            // A slice without targets is +∞ already.
            if any && slice.nrows() > 1 {
                lines.transform(slice, spacing.y());
            }
        });
    squared
}

/// Squared distance along one row; whether the row has a target.
fn along_x<T>(
    row: Option<&mut [f64]>,
    voxels: ArrayView1<'_, T>,
    is_target: impl Fn(&T) -> bool,
    spacing: f64,
) -> bool {
    // Rows of a freshly made array are contiguous.
    let Some(row) = row else { return false };
    let mut steps = f64::INFINITY;
    for (distance, voxel) in row.iter_mut().zip(voxels) {
        steps = if is_target(voxel) { 0.0 } else { steps + 1.0 };
        *distance = steps;
    }
    if steps.is_infinite() {
        return false;
    }
    steps = f64::INFINITY;
    for distance in row.iter_mut().rev() {
        steps = if *distance > 0.0 { steps + 1.0 } else { 0.0 };
        let nearest = distance.min(steps) * spacing;
        *distance = nearest * nearest;
    }
    true
}

/// One parabola of an envelope: its apex is `height` above position `at`.
#[derive(Clone, Copy)]
struct Parabola {
    at: f64,
    height: f64,
}

/// Working memory of one thread: lines gathered side by side, and an envelope.
#[derive(Default)]
struct Lines {
    gathered: Vec<f64>,
    envelope: Vec<Parabola>,
}

impl Lines {
    /// Transforms every column of `plane` (line × column) in place.
    fn transform(&mut self, mut plane: ArrayViewMut2<'_, f64>, spacing: f64) {
        let length = plane.nrows();
        let columns = plane.ncols();
        let s2 = spacing * spacing;
        for start in (0..columns).step_by(LINES) {
            let width = LINES.min(columns - start);
            let mut block = plane.slice_mut(s![.., start..start + width]);
            self.gather(block.view());
            let mut changed = false;
            for line in self.gathered.chunks_exact_mut(length).take(width) {
                changed |= take_envelope(line, s2, &mut self.envelope);
            }
            if changed {
                for (i, mut row) in block.outer_iter_mut().enumerate() {
                    for (column, value) in row.iter_mut().enumerate() {
                        *value = self.gathered[column * length + i];
                    }
                }
            }
        }
    }

    /// Puts the transformed values of `plane` into `answers`, in the columns that are asked for.
    fn answer(
        &mut self,
        plane: ArrayView2<'_, f64>,
        asked: ArrayView2<'_, bool>,
        spacing: f64,
        mut answers: ArrayViewMut2<'_, f64>,
    ) {
        let length = plane.nrows();
        let columns = plane.ncols();
        let s2 = spacing * spacing;
        let mut wanted = vec![false; columns];
        for row in asked.outer_iter() {
            for (wanted, &asked) in wanted.iter_mut().zip(row) {
                *wanted |= asked;
            }
        }
        for start in (0..columns).step_by(LINES) {
            let end = columns.min(start + LINES);
            if !wanted[start..end].contains(&true) {
                continue;
            }
            self.gather(plane.slice(s![.., start..end]));
            for column in (start..end).filter(|&column| wanted[column]) {
                let offset = (column - start) * length;
                let line = &mut self.gathered[offset..offset + length];
                take_envelope(line, s2, &mut self.envelope);
                let answers = answers.column_mut(column);
                answers.into_iter().zip(line).for_each(|(a, &mut v)| *a = v);
            }
        }
    }

    /// Copies the columns of a narrow block so that each becomes contiguous.
    fn gather(&mut self, block: ArrayView2<'_, f64>) {
        let length = block.nrows();
        self.gathered.resize(LINES * length, 0.0);
        for (i, row) in block.outer_iter().enumerate() {
            for (column, &value) in row.iter().enumerate() {
                self.gathered[column * length + i] = value;
            }
        }
    }
}

/// Replaces f(i) by min_j f(j) + s²·(i − j)²; whether anything can have changed.
fn take_envelope(line: &mut [f64], s2: f64, envelope: &mut Vec<Parabola>) -> bool {
    envelope.clear();
    let mut all_zero = true;
    for (j, &height) in line.iter().enumerate() {
        all_zero &= height <= 0.0;
        if height.is_infinite() {
            continue;
        }
        let at = j as f64;
        // With a, b the steps between three parabolas and c = a + b, the middle one lies nowhere
        // below both others when c·f₂ − b·f₁ − a·f₃ ≥ a·b·c·s².
        while let [.., first, middle] = envelope[..] {
            let (a, b) = (middle.at - first.at, at - middle.at);
            let c = a + b;
            if c * middle.height - b * first.height - a * height < a * b * c * s2 {
                break;
            }
            envelope.pop();
        }
        envelope.push(Parabola { at, height });
    }
    let Some((&first, mut rest)) = envelope.split_first() else {
        return false; // no target in reach of this line
    };
    if all_zero {
        return false;
    }
    let mut current = first;
    for (i, value) in line.iter_mut().enumerate() {
        let at = i as f64;
        let from = |p: &Parabola| p.height + s2 * ((at - p.at) * (at - p.at));
        let mut lowest = from(&current);
        // Along the envelope the values at one position fall and then rise.
        while let Some((next, others)) = rest.split_first() {
            let candidate = from(next);
            if candidate > lowest {
                break;
            }
            (lowest, current, rest) = (candidate, *next, others);
        }
        *value = lowest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::masks;
    use proptest::prelude::*;

    fn brute_force(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f64> {
        let step = spacing.zyx();
        Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
            mask.indexed_iter()
                .filter(|&(_, &inside)| inside)
                .map(|((c, b, a), _)| {
                    let at = [z, y, x];
                    let other = [c, b, a];
                    (0..3)
                        .map(|k| (step[k] * (at[k] as f64 - other[k] as f64)).powi(2))
                        .sum::<f64>()
                })
                .fold(f64::INFINITY, f64::min)
        })
    }

    fn close(a: f64, b: f64) -> bool {
        a.total_cmp(&b).is_eq() || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
    }

    proptest! {
        #[test]
        fn equals_brute_force(mask in masks(), s in [0.2..9.0f64, 0.2..9.0, 0.2..9.0]) {
            let spacing = Spacing::try_from(s).unwrap();
            let expected = brute_force(mask.view(), spacing);
            let found = squared_distance_to(mask.view(), spacing);
            for (a, b) in found.iter().zip(&expected) {
                prop_assert!(close(*a, *b), "{a} instead of {b}");
            }
            // Another memory layout is another view of the same mask.
            let turned = mask.view().permuted_axes([2, 0, 1]);
            let spacing = Spacing::new(s[2], s[0], s[1]).unwrap();
            let found = squared_distance_to(turned, spacing);
            for (a, b) in found.iter().zip(expected.permuted_axes([2, 0, 1]).iter()) {
                prop_assert!(close(*a, *b), "{a} instead of {b}");
            }
        }

        #[test]
        fn distances_scale_with_the_spacing(mask in masks(), factor in 1u8..9) {
            let spacing = [2.5, 1.25, 0.75];
            let of = |s: [f64; 3]| squared_distance_to(mask.view(), Spacing::try_from(s).unwrap());
            let factor = f64::from(factor) / 2.0;
            let (one, scaled) = (of(spacing), of(spacing.map(|s| s * factor)));
            for (a, b) in one.iter().zip(&scaled) {
                prop_assert!(close(a * factor * factor, *b), "{a} {b}");
            }
        }

        #[test]
        fn answers_equal_the_whole_transform(mask in masks(), s in [0.2..9.0f64, 0.2..9.0, 0.2..9.0]) {
            let spacing = Spacing::try_from(s).unwrap();
            let queries = mask.map(|v| !v);
            let whole = squared_distance_to(mask.view(), spacing);
            let asked = whole.iter().zip(&queries).filter(|&(_, &asked)| asked);
            let expected: Vec<f64> = asked.map(|(&value, _)| value).collect();
            let found = squared_distances_at(mask.view(), queries.view(), spacing);
            prop_assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                prop_assert!(close(*a, *b), "{a} instead of {b}");
            }
        }

        #[test]
        fn answers_to_few_points_equal_the_whole_transform(
            targets in prop::collection::vec([0usize..18, 0..21, 0..33], 1..200),
            queries in prop::collection::vec([0usize..18, 0..21, 0..33], 1..200),
            s in [0.2..9.0f64, 0.2..9.0, 0.2..9.0],
        ) {
            let mask = |points: &[[usize; 3]]| {
                let mut mask = Array3::from_elem((18, 21, 33), false);
                points.iter().for_each(|&at| mask[at] = true);
                mask
            };
            let (targets, queries) = (mask(&targets), mask(&queries));
            prop_assert!(points(targets.view()).len() < targets.len() / SPARSE);
            let spacing = Spacing::try_from(s).unwrap();
            let whole = squared_distance_to(targets.view(), spacing);
            let asked = whole.iter().zip(&queries).filter(|&(_, &asked)| asked);
            let found = squared_distances_at(targets.view(), queries.view(), spacing);
            prop_assert_eq!(found.len(), asked.clone().count());
            for (a, (b, _)) in found.iter().zip(asked) {
                prop_assert!(close(*a, *b), "{a} instead of {b}");
            }
        }

        #[test]
        fn the_complement_has_the_opposite_sign(mask in masks()) {
            let spacing = Spacing::new(3.0, 1.5, 0.7).unwrap();
            let signed = signed_distance(mask.view(), spacing);
            let other = signed_distance(mask.map(|v| !v).view(), spacing);
            prop_assert!(signed.iter().zip(&other).all(|(&a, &b)| a.total_cmp(&-b).is_eq()));
        }

        #[test]
        fn sign_tells_inside_from_outside(mask in masks()) {
            let signed = signed_distance(mask.view(), Spacing::ISOTROPIC_1MM);
            for (&inside, &d) in mask.iter().zip(&signed) {
                let outward = if inside { -d } else { d };
                prop_assert!(outward >= 1.0);
            }
        }
    }
}
