//! One linear resampling of image and label through an affine map.
//!
//! Input coordinates along an output row are an arithmetic progression. They are kept in fixed
//! point with 32 fractional bits: a step is one addition, voxel and weight are the two halves of
//! the word, and the part of the row whose corners all lie inside the input is found exactly
//! beforehand, so that only its two ends look at borders.

use super::gather::{Cell, interpolate};
use super::params::blank;
use super::vote::{corner_weight, is_upper, nearest_corner, vote};
use super::warp::Grid;
use crate::simd::vectorised;
use crate::{MapKind, OUTSIDE, Sample, Scratch};

/// Fractional bits of a coordinate.
const BITS: u32 = 32;
/// One voxel.
const ONE: i64 = 1 << BITS;

/// A point of the input in fixed point, `[z, y, x]`.
type Point = [i64; 3];

/// Resamples through the affine map of `grid`.
///
/// Image: trilinear, 0 outside, so that the border fades over one voxel. Label: the label with
/// the largest total weight among the eight corners, where the outside is labelled −1; ties go to
/// the nearest voxel's label if tied, else to the smallest.
///
/// Expects arrays in C order.
pub(super) fn resample(sample: &Sample, grid: &Grid, scratch: &mut Scratch) -> Sample {
    let [nz, ny, nx] = grid.output;
    let mut result = blank(sample, grid.output, scratch);
    let (voxels_in, voxels_out) = (sample.label.len(), result.label.len());
    let step = grid.step().map(fixed);
    let rows = || {
        tiled(nz, ny).map(|[z, y]| {
            let start = grid.start([z, y]).map(fixed);
            ((z * ny + y) * nx, Row::new(grid.input, start, step, nx))
        })
    };
    let mut cells = Cells::new(nx);
    if let (Some(from), Some(to)) = (sample.image.as_slice(), result.image.as_slice_mut()) {
        for (at, row) in rows() {
            let channels = from.chunks_exact(voxels_in);
            for (from, to) in channels.zip(to.chunks_exact_mut(voxels_out)) {
                row.fill_image(from, &mut cells, &mut to[at..at + nx]);
            }
        }
    }
    if let (Some(from), Some(to)) = (sample.label.as_slice(), result.label.as_slice_mut()) {
        // Where all voxels have one label, only the border can have another.
        let only = from
            .first()
            .filter(|first| from.iter().all(|label| label == *first));
        for (at, row) in rows() {
            row.fill_label(from, only.copied(), &mut to[at..at + nx]);
        }
    }
    for (from, to) in sample.maps.iter().zip(&mut result.maps) {
        let kind = from.kind;
        if let (Some(from), Some(to)) = (from.values.as_slice(), to.values.as_slice_mut()) {
            for (at, row) in rows() {
                match kind {
                    MapKind::Quantity => row.fill_image(from, &mut cells, &mut to[at..at + nx]),
                    MapKind::Regions => row.fill_regions(from, &mut to[at..at + nx]),
                }
            }
        }
    }
    result
}

/// Rows (z, y) of the output in square tiles: neighbouring rows in both directions read much the same
/// part of a turned input, which is still in the cache then.
pub(super) fn tiled(nz: usize, ny: usize) -> impl Iterator<Item = [usize; 2]> {
    const TILE: usize = 8;
    (0..nz).step_by(TILE).flat_map(move |z_from| {
        (0..ny).step_by(TILE).flat_map(move |y_from| {
            (z_from..nz.min(z_from + TILE))
                .flat_map(move |z| (y_from..ny.min(y_from + TILE)).map(move |y| [z, y]))
        })
    })
}

fn fixed(coordinate: f64) -> i64 {
    (coordinate * ONE as f64).round() as i64
}

/// The voxel below a coordinate.
#[inline(always)]
fn whole(coordinate: i64) -> i64 {
    coordinate >> BITS
}

/// How far a coordinate lies above that voxel, 0 to 1. The upper 24 bits are what f32 can hold.
#[inline(always)]
fn share_of(coordinate: i64) -> f32 {
    const SCALE: f32 = 1.0 / (1 << 24) as f32;
    ((coordinate as u32) >> 8) as i32 as f32 * SCALE
}

/// Buffers for the cells of one row.
struct Cells {
    /// Where each cell's first corner lies in the input.
    first: Vec<u32>,
    /// How far points lie beyond it along z, y, x.
    share: [Vec<f32>; 3],
}

impl Cells {
    fn new(count: usize) -> Self {
        Self {
            first: vec![0; count],
            share: [(); 3].map(|()| vec![0.0; count]),
        }
    }
}

vectorised! {
    /// Finds the cells of points that lie inside, from `start` on.
    fn find_cells(
        start: Point,
        step: Point,
        sides: [u32; 2],
        first: &mut [u32],
        share_z: &mut [f32],
        share_y: &mut [f32],
        share_x: &mut [f32],
    ) {
        let n = first.len();
        let (share_z, share_y) = (&mut share_z[..n], &mut share_y[..n]);
        let share_x = &mut share_x[..n];
        let [mut z, mut y, mut x] = start;
        for k in 0..n {
            let below = [z, y, x].map(|at| whole(at) as u32);
            first[k] = (below[0] * sides[0] + below[1]) * sides[1] + below[2];
            share_z[k] = share_of(z);
            share_y[k] = share_of(y);
            share_x[k] = share_of(x);
            z += step[0];
            y += step[1];
            x += step[2];
        }
    }
}

/// One row of the output on its way through the input.
struct Row {
    /// Shape of the input.
    shape: [usize; 3],
    /// The point that output voxel 0 reads, and the way from one to the next.
    start: Point,
    step: Point,
    /// Whether the whole row lies in one slice of the input: then four corners do.
    in_slice: bool,
    /// Output voxels that touch the input at all.
    touching: (usize, usize),
    /// Output voxels whose corners all lie inside; a part of `touching`.
    inside: (usize, usize),
}

impl Row {
    fn new(shape: [usize; 3], start: Point, step: Point, count: usize) -> Self {
        let in_slice = step[0] == 0 && start[0] % ONE == 0;
        let mut touching = (0, count);
        let mut inside = (0, count);
        for axis in 0..3 {
            let last = (shape[axis] as i64 - 1) * ONE;
            // Corners outside have no weight on the last voxel itself, but their place would be
            // read; in a slice none is.
            let upper = if axis == 0 && in_slice {
                last
            } else {
                last - 1
            };
            let (start, step) = (start[axis], step[axis]);
            inside = intersect(inside, between(start, step, 0, upper, count));
            touching = intersect(
                touching,
                between(start, step, 1 - ONE, last + ONE - 1, count),
            );
        }
        // An empty inside lies anywhere: put it where the row starts to touch.
        if inside.0 >= inside.1 {
            inside = (touching.0, touching.0);
        }
        Self {
            shape,
            start,
            step,
            in_slice,
            touching,
            inside,
        }
    }

    /// The point that output voxel `x` reads.
    fn point(&self, x: usize) -> Point {
        [0, 1, 2].map(|axis| self.start[axis] + self.step[axis] * x as i64)
    }

    /// The output voxels that touch the border of the input.
    fn border(&self) -> impl Iterator<Item = usize> {
        (self.touching.0..self.inside.0).chain(self.inside.1..self.touching.1)
    }

    /// Sets every voxel inside to what `work` makes of its first corner's index, its shares along
    /// z, y, x and its point.
    fn for_inside<T>(&self, out: &mut [T], work: impl Fn(usize, [f32; 3], Point) -> T) {
        let [_, ny, nx] = self.shape;
        let [mut z, mut y, mut x] = self.point(self.inside.0);
        let [step_z, step_y, step_x] = self.step;
        for out in &mut out[self.inside.0..self.inside.1] {
            let first = (whole(z) as usize * ny + whole(y) as usize) * nx + whole(x) as usize;
            *out = work(first, [share_of(z), share_of(y), share_of(x)], [z, y, x]);
            z += step_z;
            y += step_y;
            x += step_x;
        }
    }

    fn fill_image(&self, input: &[f32], cells: &mut Cells, out: &mut [f32]) {
        let [_, ny, nx] = self.shape;
        let (from, to) = self.inside;
        let cell = Cell {
            row: nx,
            slice: if self.in_slice { 0 } else { ny * nx },
        };
        let count = to - from;
        let Cells { first, share } = cells;
        let [share_z, share_y, share_x] = share;
        find_cells(
            self.point(from),
            self.step,
            [ny as u32, nx as u32],
            &mut first[..count],
            &mut share_z[..count],
            &mut share_y[..count],
            &mut share_x[..count],
        );
        interpolate(
            input,
            cell,
            first,
            share_z,
            share_y,
            share_x,
            &mut out[from..to],
        );
        for at in self.border() {
            let point = self.point(at);
            out[at] = (0..8)
                .filter_map(|corner| {
                    let index = corner_index(self.shape, point, corner)?;
                    Some(corner_weight(point.map(share_of), corner) * input[index])
                })
                .sum();
        }
    }

    fn fill_label(&self, input: &[i8], only: Option<i8>, out: &mut [i8]) {
        let [_, ny, nx] = self.shape;
        // A slice away; in one slice the far corners are the near ones, and weigh nothing.
        let far = if self.in_slice { 0 } else { ny * nx };
        if let Some(label) = only {
            out[self.inside.0..self.inside.1].fill(label);
        } else {
            self.for_inside(out, |first, _, point| {
                let corners = &input[first..first + far + nx + 2];
                let (a, b, c, d) = (corners[0], corners[1], corners[nx], corners[nx + 1]);
                let corners = &corners[far..];
                let (e, f, g, h) = (corners[0], corners[1], corners[nx], corners[nx + 1]);
                // Nearly always all corners agree.
                let differs = (a ^ b) | (a ^ c) | (a ^ d) | (a ^ e) | (a ^ f) | (a ^ g) | (a ^ h);
                if differs == 0 {
                    a
                } else {
                    vote([a, b, c, d, e, f, g, h], odd(point), point.map(share_of))
                }
            });
        }
        for at in self.border() {
            let point = self.point(at);
            let labels = [0, 1, 2, 3, 4, 5, 6, 7].map(|corner| {
                corner_index(self.shape, point, corner).map_or(OUTSIDE, |index| input[index])
            });
            out[at] = vote(labels, odd(point), point.map(share_of));
        }
    }

    fn fill_regions(&self, input: &[f32], out: &mut [f32]) {
        let (from, to) = self.touching;
        for (at, out) in out.iter_mut().enumerate().take(to).skip(from) {
            let point = self.point(at);
            let corner = nearest_corner(odd(point), point.map(share_of));
            *out = corner_index(self.shape, point, corner)
                .map_or(f32::from(OUTSIDE), |index| input[index]);
        }
    }
}

/// The steps k in 0..count for which `least` ≤ `start` + k `step` ≤ `most`, as (first, end).
fn between(start: i64, step: i64, least: i64, most: i64, count: usize) -> (usize, usize) {
    if step == 0 {
        let fits = (least..=most).contains(&start);
        return (0, if fits { count } else { 0 });
    }
    // Walking down is walking up in the mirror.
    let (start, step, least, most) = if step > 0 {
        (start, step, least, most)
    } else {
        (-start, -step, -most, -least)
    };
    // ⌈a / b⌉ = −⌊−a / b⌋ for b > 0.
    let first = -(start - least).div_euclid(step);
    let end = (most - start).div_euclid(step) + 1;
    let limit = |k: i64| k.clamp(0, count as i64) as usize;
    (limit(first), limit(end))
}

/// What two ranges have in common; may be empty with its end before its start.
fn intersect(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.max(b.0), a.1.min(b.1))
}

/// Whether the voxels below a point have odd numbers.
fn odd(point: Point) -> [bool; 3] {
    point.map(|coordinate| whole(coordinate) & 1 == 1)
}

/// The place of a corner in memory, if it lies in the input.
fn corner_index(shape: [usize; 3], point: Point, corner: usize) -> Option<usize> {
    (0..3).try_fold(0, |index, axis| {
        let at = usize::try_from(whole(point[axis]) + i64::from(is_upper(corner, axis))).ok()?;
        (at < shape[axis]).then_some(index * shape[axis] + at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn between_finds_exactly_the_steps_inside(
            start in -50i64..50, step in -7i64..=7, least in -30i64..30, width in -3i64..30,
            count in 0usize..40,
        ) {
            let most = least + width;
            let (first, end) = between(start, step, least, most, count);
            for k in 0..count {
                let inside = (least..=most).contains(&(start + step * k as i64));
                prop_assert_eq!(inside, (first..end).contains(&k), "k = {}", k);
            }
        }
    }

    #[test]
    fn tiles_visit_every_row_once() {
        for (nz, ny) in [(1, 1), (8, 8), (9, 17), (3, 40)] {
            let mut rows: Vec<_> = tiled(nz, ny).collect();
            rows.sort_unstable();
            let all = (0..nz).flat_map(|z| (0..ny).map(move |y| [z, y]));
            assert!(rows.into_iter().eq(all));
        }
    }

    #[test]
    fn corners_outside_have_no_place() {
        let shape = [2, 3, 4];
        let point = [-ONE / 2, ONE, 3 * ONE + ONE / 2];
        assert_eq!(corner_index(shape, point, 0), None);
        assert_eq!(corner_index(shape, point, 0b100), Some(7));
        assert_eq!(corner_index(shape, point, 0b101), None);
        assert!((corner_weight(point.map(share_of), 0b100) - 0.25).abs() < 1e-7);
    }
}
