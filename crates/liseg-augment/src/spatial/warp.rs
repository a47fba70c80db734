//! One resampling through an affine map and a displacement, linear or by cubic splines.

use super::Generation;
use super::field::{Field, FieldRow};
use super::gather::{Cell, interpolate};
use super::params::blank;
use super::resample::tiled;
use super::spline::{mirrored, prefilter, weights};
use super::vote::{corner_weight, is_upper, nearest_corner, vote};
use crate::simd::vectorised;
use crate::{MapKind, OUTSIDE, Sample, Scratch};

/// Where output voxels read the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 3],
    pub(crate) matrix: [[f64; 3]; 3],
    pub(crate) shift: [f64; 3],
}

impl Grid {
    /// The point that the first voxel of output row (z, y) reads, without displacement.
    pub(crate) fn start(&self, [z, y]: [usize; 2]) -> [f64; 3] {
        let centred = |k: usize, length: usize| k as f64 - (length as f64 - 1.0) / 2.0;
        let [nz, ny, nx] = self.output;
        [0, 1, 2].map(|axis| {
            let [a, b, c] = self.matrix[axis];
            let turned = a * centred(z, nz) + b * centred(y, ny) + c * centred(0, nx);
            turned + (self.input[axis] as f64 - 1.0) / 2.0 + self.shift[axis]
        })
    }

    /// The way from one voxel of a row to the next.
    pub(crate) fn step(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.matrix[axis][2])
    }

    /// How far on in memory a row reads that lies `rows` further along y, to the nearest voxel.
    pub(crate) fn rows_ahead(&self, rows: usize) -> isize {
        let [_, ny, nx] = self.input;
        let strides = [ny * nx, nx, 1];
        let along = |axis: usize| (self.matrix[axis][1] * rows as f64).round() as isize;
        (0..3)
            .map(|axis| along(axis) * strides[axis] as isize)
            .sum()
    }

    /// A displacement in the input's voxels.
    fn turned(&self, e: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|i| (0..3).map(|j| self.matrix[i][j] * e[j]).sum())
    }
}

/// The points that one row reads: the voxel below and how far beyond it.
#[derive(Debug)]
pub(crate) struct Points {
    below: [Vec<i32>; 3],
    share: [Vec<f32>; 3],
    /// Where the cell begins, for points whose corners all are voxels; else 0.
    first: Vec<u32>,
    /// The points of which some corner is no voxel.
    border: Vec<u32>,
}

impl Points {
    fn new(count: usize) -> Self {
        Self {
            below: [(); 3].map(|()| vec![0; count]),
            share: [(); 3].map(|()| vec![0.0; count]),
            first: vec![0; count],
            border: Vec::with_capacity(count),
        }
    }

    /// Finds the points of a row that starts at `start`.
    fn fill(&mut self, grid: &Grid, start: [f64; 3], field: Option<FieldRow<'_>>) {
        let step = grid.step();
        for axis in 0..3 {
            let (below, share) = (&mut self.below[axis], &mut self.share[axis]);
            let (start, step, row) = (start[axis], step[axis], grid.matrix[axis]);
            let last = grid.input[axis] as f64 - 1.0;
            match field {
                Some(field) => places(below, share, start, step, row, field, last),
                None => straight_places(below, share, start, step, last),
            }
        }
        let [z, y, x] = &self.below;
        find_cells(z, y, x, grid.input, &mut self.first);
        self.border.clear();
        let outside = self
            .first
            .iter()
            .enumerate()
            .filter(|(_, first)| **first == NOWHERE);
        self.border.extend(outside.map(|(x, _)| x as u32));
        for x in &self.border {
            self.first[*x as usize] = 0;
        }
    }

    fn below(&self, x: usize) -> [i32; 3] {
        [0, 1, 2].map(|axis| self.below[axis][x])
    }

    fn share(&self, x: usize) -> [f32; 3] {
        [0, 1, 2].map(|axis| self.share[axis][x])
    }

    /// Sets what lies beyond the outermost voxel centres to 0.
    fn clear_beyond_centres(&self, shape: [usize; 3], out: &mut [f32]) {
        for &x in &self.border {
            let x = x as usize;
            if !within(self.below(x), self.share(x), shape) {
                out[x] = 0.0;
            }
        }
    }

    /// The coordinates of one point, for tests.
    #[cfg(test)]
    fn coordinate(&self, x: usize) -> [f64; 3] {
        [0, 1, 2].map(|a| f64::from(self.below[a][x]) + f64::from(self.share[a][x]))
    }
}

vectorised! {
    fn places(
        below: &mut [i32],
        share: &mut [f32],
        start: f64,
        step: f64,
        row: [f64; 3],
        field: FieldRow<'_>,
        last: f64,
    ) {
        let n = below.len();
        let ([a, b, c], [ez, ey, ex]) = (row, field);
        let (share, ez, ey, ex) = (&mut share[..n], &ez[..n], &ey[..n], &ex[..n]);
        for x in 0..n {
            let moved = a * f64::from(ez[x]) + b * f64::from(ey[x]) + c * f64::from(ex[x]);
            let at = start + step * x as i32 as f64 + moved;
            (below[x], share[x]) = split(at, last);
        }
    }
}

vectorised! {
    fn straight_places(below: &mut [i32], share: &mut [f32], start: f64, step: f64, last: f64) {
        let n = below.len();
        let share = &mut share[..n];
        for x in 0..n {
            (below[x], share[x]) = split(start + step * x as i32 as f64, last);
        }
    }
}

/// No cell.
const NOWHERE: u32 = u32::MAX;

vectorised! {
    /// Finds the cells of points, `NOWHERE` for those of which some corner is no voxel.
    fn find_cells(z: &[i32], y: &[i32], x: &[i32], shape: [usize; 3], first: &mut [u32]) {
        let n = first.len();
        let (z, y, x) = (&z[..n], &y[..n], &x[..n]);
        let [nz, ny, nx] = shape.map(|side| side as u32);
        for k in 0..n {
            // As unsigned numbers those below zero are the largest.
            let (a, b, c) = (z[k] as u32, y[k] as u32, x[k] as u32);
            let inside = (a < nz - 1) & (b < ny - 1) & (c < nx - 1);
            let at = a.wrapping_mul(ny).wrapping_add(b).wrapping_mul(nx).wrapping_add(c);
            first[k] = if inside { at } else { NOWHERE };
        }
    }
}

/// The voxel below a point and how far beyond it. A point on the last voxel counts from the one
/// before, so that its corners all are voxels.
#[inline(always)]
#[expect(
    clippy::float_cmp,
    reason = "a point on the last voxel is exactly there"
)]
fn split(at: f64, last: f64) -> (i32, f32) {
    // Far outside is outside: i32 holds it.
    let at = if at < -1e6 { -1e6 } else { at };
    let at = if at > 1e6 { 1e6 } else { at };
    let floor = at.floor();
    let floor = if at == last && last > 0.0 {
        last - 1.0
    } else {
        floor
    };
    (floor as i32, (at - floor) as f32)
}

/// Resamples all of a sample; see [`Generation`] for the conventions.
pub(crate) fn warp(
    sample: &Sample,
    grid: &Grid,
    field: Option<&Field>,
    generation: Generation,
    scratch: &mut Scratch,
) -> Sample {
    let [nz, ny, nx] = grid.output;
    let mut result = blank(sample, grid.output, scratch);
    let (voxels_in, voxels_out) = (sample.label.len(), result.label.len());
    let coefficients = (generation == Generation::V1).then(|| {
        let mut all = scratch.floats(sample.image.len());
        if let Some(image) = sample.image.as_slice() {
            all.copy_from_slice(image);
        }
        for channel in all.chunks_exact_mut(voxels_in) {
            prefilter(channel, grid.input);
        }
        all
    });
    let mean = match (field, generation) {
        (Some(field), Generation::V2) => grid.turned(field.mean()),
        _ => [0.0; 3],
    };
    let mut buffers = [(); 3].map(|()| {
        let mut buffer = scratch.floats(nx);
        buffer.fill(0.0);
        buffer
    });
    let mut points = Points::new(nx);
    let image_in = coefficients.as_deref().or(sample.image.as_slice());
    let (Some(image_in), Some(image_out), Some(label_in), Some(label_out)) = (
        image_in,
        result.image.as_slice_mut(),
        sample.label.as_slice(),
        result.label.as_slice_mut(),
    ) else {
        return result;
    };
    for place in tiled(nz, ny) {
        let row = place[0] * ny + place[1];
        let start = grid.start(place);
        let start = [0, 1, 2].map(|axis| start[axis] - mean[axis]);
        let moved = field.map(|field| field.row(place, ny, &mut buffers));
        points.fill(grid, start, moved);
        let at = row * nx;
        let channels = image_in.chunks_exact(voxels_in);
        for (from, to) in channels.zip(image_out.chunks_exact_mut(voxels_out)) {
            let to = &mut to[at..at + nx];
            match generation {
                Generation::V1 => fill_cubic(&points, grid.input, from, to),
                Generation::V2 => fill_linear(&points, grid.input, from, to),
            }
        }
        fill_label(
            &points,
            grid.input,
            label_in,
            &mut label_out[at..at + nx],
            generation,
        );
        for (from, to) in sample.maps.iter().zip(&mut result.maps) {
            let kind = from.kind;
            if let (Some(from), Some(to)) = (from.values.as_slice(), to.values.as_slice_mut()) {
                let to = &mut to[at..at + nx];
                match kind {
                    MapKind::Quantity => {
                        fill_linear(&points, grid.input, from, to);
                        if generation == Generation::V1 {
                            points.clear_beyond_centres(grid.input, to);
                        }
                    }
                    MapKind::Regions => fill_regions(&points, grid.input, from, to),
                }
            }
        }
    }
    buffers.into_iter().for_each(|buffer| scratch.give(buffer));
    coefficients.into_iter().for_each(|all| scratch.give(all));
    result
}

/// The index of the lowest corner, where all eight corners are voxels.
#[inline(always)]
fn inside(below: [i32; 3], [nz, ny, nx]: [usize; 3]) -> Option<usize> {
    let [z, y, x] = below;
    let fits = |k: i32, n: usize| (k as u32 as usize) < n.wrapping_sub(1) && k >= 0 && n > 1;
    (fits(z, nz) && fits(y, ny) && fits(x, nx))
        .then(|| (z as usize * ny + y as usize) * nx + x as usize)
}

/// The index of a corner, if it is a voxel.
fn corner_index(below: [i32; 3], shape: [usize; 3], corner: usize) -> Option<usize> {
    (0..3).try_fold(0, |index, axis| {
        let at = below[axis] + i32::from(is_upper(corner, axis));
        let at = usize::try_from(at).ok()?;
        (at < shape[axis]).then_some(index * shape[axis] + at)
    })
}

fn fill_linear(points: &Points, shape: [usize; 3], input: &[f32], out: &mut [f32]) {
    let [_, ny, nx] = shape;
    if points.border.len() < out.len() {
        let cell = Cell {
            row: nx,
            slice: ny * nx,
            ahead: 0,
        };
        let [share_z, share_y, share_x] = &points.share;
        interpolate(input, cell, &points.first, share_z, share_y, share_x, out);
    }
    for &x in &points.border {
        let x = x as usize;
        let (below, share) = (points.below(x), points.share(x));
        let weighted = (0..8).filter_map(|corner| {
            let index = corner_index(below, shape, corner)?;
            Some(corner_weight(share, corner) * input[index])
        });
        out[x] = weighted.sum();
    }
}

/// Whether a point lies within the outermost voxel centres.
fn within(below: [i32; 3], share: [f32; 3], shape: [usize; 3]) -> bool {
    (0..3).all(|axis| {
        let last = shape[axis] as i32 - 1;
        below[axis] >= 0 && (below[axis] < last || (below[axis] == last && share[axis] == 0.0))
    })
}

fn fill_cubic(points: &Points, shape: [usize; 3], coefficients: &[f32], out: &mut [f32]) {
    let [_, ny, nx] = shape;
    for (x, out) in out.iter_mut().enumerate() {
        let (below, share) = (points.below(x), points.share(x));
        if !within(below, share, shape) {
            *out = 0.0;
            continue;
        }
        let places = [0, 1, 2].map(|axis| {
            let (first, n) = (i64::from(below[axis]) - 1, shape[axis]);
            [0, 1, 2, 3].map(|k| mirrored(first + k, n))
        });
        let of_axis = |axis: usize| match shape[axis] {
            // Along one voxel there is no spline.
            1 => [0.0, 1.0, 0.0, 0.0],
            _ => weights(share[axis]),
        };
        let (wz, wy, wx) = (of_axis(0), of_axis(1), of_axis(2));
        let mut sum = 0.0;
        for (z, wz) in places[0].iter().zip(wz) {
            let mut of_slice = 0.0;
            for (y, wy) in places[1].iter().zip(wy) {
                let row = &coefficients[(z * ny + y) * nx..][..nx];
                let of_row: f32 = places[2].iter().zip(wx).map(|(&x, wx)| wx * row[x]).sum();
                of_slice += wy * of_row;
            }
            sum += wz * of_slice;
        }
        *out = sum;
    }
}

fn fill_label(
    points: &Points,
    shape: [usize; 3],
    input: &[i8],
    out: &mut [i8],
    generation: Generation,
) {
    let [_, ny, nx] = shape;
    let slice = ny * nx;
    for (x, out) in out.iter_mut().enumerate() {
        let (below, share) = (points.below(x), points.share(x));
        let odd = below.map(|k| k & 1 == 1);
        if let Some(first) = inside(below, shape) {
            let near = &input[first..first + nx + 2];
            let far = &input[first + slice..first + slice + nx + 2];
            let labels = [
                near[0],
                near[1],
                near[nx],
                near[nx + 1],
                far[0],
                far[1],
                far[nx],
                far[nx + 1],
            ];
            let differs = labels.iter().fold(0, |all, label| all | (label ^ near[0]));
            *out = match differs {
                0 => near[0],
                _ => vote(labels, odd, share),
            };
            continue;
        }
        if generation == Generation::V1 && !within(below, share, shape) {
            *out = OUTSIDE;
            continue;
        }
        let labels = [0, 1, 2, 3, 4, 5, 6, 7]
            .map(|corner| corner_index(below, shape, corner).map_or(OUTSIDE, |at| input[at]));
        *out = vote(labels, odd, share);
    }
}

fn fill_regions(points: &Points, shape: [usize; 3], input: &[f32], out: &mut [f32]) {
    for (x, out) in out.iter_mut().enumerate() {
        let (below, share) = (points.below(x), points.share(x));
        let corner = nearest_corner(below.map(|k| k & 1 == 1), share);
        *out = corner_index(below, shape, corner).map_or(f32::from(OUTSIDE), |at| input[at]);
    }
}

/// The points that all output voxels read, `[axis][z, y, x]`, for comparison with references.
#[cfg(test)]
pub(crate) fn coordinates(grid: &Grid, field: Option<&Field>) -> Vec<[f64; 3]> {
    let [nz, ny, nx] = grid.output;
    let mut points = Points::new(nx);
    let mut buffers = [(); 3].map(|()| vec![0.0; nx]);
    let mut all = Vec::new();
    for row in 0..nz * ny {
        let place = [row / ny, row % ny];
        let moved = field.map(|field| field.row(place, ny, &mut buffers));
        points.fill(grid, grid.start(place), moved);
        all.extend((0..nx).map(|x| points.coordinate(x)));
    }
    all
}
