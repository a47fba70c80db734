//! One row of the output on its way through the input.
//!
//! Input coordinates along an output row are an arithmetic progression. They are kept in fixed
//! point with 32 fractional bits: a step is one addition, voxel and weight are the two halves of
//! the word, and the part of the row that lies inside the input is found exactly beforehand.

use super::border::Border;
use super::gather::Cell;
use crate::simd::vectorised;

/// Fractional bits of a coordinate.
const BITS: u32 = 32;
/// One voxel.
const ONE: i64 = 1 << BITS;

/// A point of the input in fixed point, `[z, y, x]`.
pub(super) type Point = [i64; 3];

/// The nearest coordinate in fixed point.
pub(super) fn fixed(coordinate: f64) -> i64 {
    (coordinate * ONE as f64).round() as i64
}

/// The voxel below a coordinate.
#[inline(always)]
pub(super) fn whole(coordinate: i64) -> i64 {
    coordinate >> BITS
}

/// How far a coordinate lies above that voxel, 0 to 1. The upper 24 bits are what f32 can hold.
#[inline(always)]
pub(super) fn share_of(coordinate: i64) -> f32 {
    const SCALE: f32 = 1.0 / (1 << 24) as f32;
    ((coordinate as u32) >> 8) as i32 as f32 * SCALE
}

/// Output voxels of a row: the first and the end.
pub(super) type Part = (usize, usize);

/// A box of voxels, `[z, y, x]`: the first and the last along each axis.
pub(super) type Bounds = [(usize, usize); 3];

/// One row of the output.
#[derive(Debug)]
pub(super) struct Row {
    /// Shape of the input.
    shape: [usize; 3],
    /// The point that output voxel 0 reads, and the way from one to the next.
    start: Point,
    step: Point,
    count: usize,
    /// Whether the whole row lies in one slice of the input: then four corners do.
    in_slice: bool,
    /// Output voxels that touch the input at all.
    pub(super) touching: Part,
    /// Output voxels whose corners all lie inside; a part of `touching`.
    pub(super) inside: Part,
}

impl Row {
    /// The row of `count` voxels that begins at `start`, in an input of the given shape.
    pub(super) fn new(shape: [usize; 3], start: Point, step: Point, count: usize) -> Self {
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
        // An empty part lies anywhere: put it where the larger one begins.
        touching.1 = touching.1.max(touching.0);
        if inside.0 >= inside.1 {
            inside = (touching.0, touching.0);
        }
        Self {
            shape,
            start,
            step,
            count,
            in_slice,
            touching,
            inside,
        }
    }

    /// Where the corners of its cells lie, and the cells that are read `ahead`.
    pub(super) fn cell(&self, ahead: isize) -> Cell {
        let [_, ny, nx] = self.shape;
        Cell {
            row: nx,
            slice: if self.in_slice { 0 } else { ny * nx },
            ahead,
        }
    }

    /// The output voxels that touch the border of the input.
    fn border(&self) -> impl Iterator<Item = usize> {
        (self.touching.0..self.inside.0).chain(self.inside.1..self.touching.1)
    }

    /// What output voxel `x` reads at the border.
    fn border_at(&self, x: usize) -> Border {
        Border::new(self.shape, self.point(x))
    }

    /// The voxels of `touching` of which a corner lies in the box; none where there is no box.
    pub(super) fn meets(&self, bounds: Option<Bounds>) -> Part {
        let nowhere = (self.touching.0, self.touching.0);
        let Some(bounds) = bounds else {
            return nowhere;
        };
        let part = (0..3).fold(self.touching, |part, axis| {
            let (first, last) = bounds[axis];
            let (least, most) = ((first as i64 - 1) * ONE, (last as i64 + 1) * ONE - 1);
            let (start, step) = (self.start[axis], self.step[axis]);
            intersect(part, between(start, step, least, most, self.count))
        });
        if part.0 < part.1 { part } else { nowhere }
    }

    /// The point that output voxel `x` reads.
    fn point(&self, x: usize) -> Point {
        [0, 1, 2].map(|axis| self.start[axis] + self.step[axis] * x as i64)
    }

    /// Whether the voxels below the point of output voxel `x` have odd numbers.
    pub(super) fn odd(&self, x: usize) -> [bool; 3] {
        self.point(x).map(|coordinate| whole(coordinate) & 1 == 1)
    }
}

/// What one row reads.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// The voxels that touch the border of the input.
    pub(super) border: Vec<(usize, Border)>,
    /// For the voxels inside: where each cell's first corner lies in the input.
    pub(super) first: Vec<u32>,
    /// How far points lie beyond it along z, y, x.
    pub(super) share: [Vec<f32>; 3],
}

impl Cells {
    /// Finds what the row reads.
    pub(super) fn find(&mut self, row: &Row) {
        self.border.clear();
        self.border
            .extend(row.border().map(|x| (x, row.border_at(x))));
        let part = row.inside;
        let [_, ny, nx] = row.shape;
        let count = part.1 - part.0;
        self.first.resize(count, 0);
        for share in &mut self.share {
            share.resize(count, 0.0);
        }
        let [share_z, share_y, share_x] = &mut self.share;
        find_cells(
            row.point(part.0),
            row.step,
            [(ny * nx) as u32, nx as u32],
            &mut self.first,
            share_z,
            share_y,
            share_x,
        );
    }

    /// How far point `k` lies beyond its cell's first corner, along z, y, x.
    pub(super) fn share(&self, k: usize) -> [f32; 3] {
        [0, 1, 2].map(|axis| self.share[axis][k])
    }
}

vectorised! {
    fn find_cells(
        start: Point,
        step: Point,
        strides: [u32; 2],
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
            first[k] = below[0] * strides[0] + below[1] * strides[1] + below[2];
            share_z[k] = share_of(z);
            share_y[k] = share_of(y);
            share_x[k] = share_of(x);
            z += step[0];
            y += step[1];
            x += step[2];
        }
    }
}

/// The steps k in 0..count for which `least` ≤ `start` + k `step` ≤ `most`, as (first, end).
fn between(start: i64, step: i64, least: i64, most: i64, count: usize) -> Part {
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

/// What two parts have in common; may be empty with its end before its start.
fn intersect(a: Part, b: Part) -> Part {
    (a.0.max(b.0), a.1.min(b.1))
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
    fn a_row_knows_where_it_enters_and_leaves() {
        // Along x from −1.5 in steps of 1: voxels 1 and 5 touch an input of four voxels, those
        // between have all corners in it.
        let start = [0.5, 0.25, -1.5].map(fixed);
        let row = Row::new([2, 2, 4], start, [0, 0, ONE], 9);
        assert_eq!((row.touching, row.inside), ((1, 6), (2, 5)));
        assert!(!row.in_slice);
        assert!(row.border().eq([1, 5]));
        // Voxel 2 lies between 0 and 1, voxel 3 between 1 and 2.
        assert_eq!(row.meets(Some([(0, 0), (1, 1), (1, 1)])), (2, 4));
        assert_eq!(row.meets(Some([(0, 0), (1, 1), (3, 3)])), (4, 6));
        assert_eq!(row.meets(None), (1, 1));

        let mut cells = Cells::default();
        cells.find(&row);
        assert_eq!(cells.first, [0, 1, 2]);
        assert_eq!(cells.share(1).map(|share| (share * 4.0) as u8), [2, 1, 2]);
        assert_eq!(row.odd(3), [false, false, true]);
    }
}
