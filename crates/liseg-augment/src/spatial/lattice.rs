//! A smooth random displacement: cubic B-splines over a lattice of random control points.
//!
//! A cubic B-spline of spacing h is, to a few per cent, a Gaussian of standard deviation h/√3, so
//! independent control points give white noise smoothed by such a Gaussian, at a cost that does
//! not depend on its width.

use crate::Scratch;
use crate::noise::fill_normals;
use crate::simd::vectorised;

/// Mean over all places of Σ B², the sum of squared cubic B-spline weights: 151/315.
const MEAN_SQUARE: f64 = 151.0 / 315.0;

/// Where the output voxels of one axis lie between control points.
#[derive(Debug, Clone)]
struct AxisPlaces {
    /// How many control points there are.
    points: usize,
    /// Runs of voxels between the same control points: (first control point, first voxel, end).
    runs: Vec<(usize, usize, usize)>,
    /// How far each voxel lies beyond its second control point, in 0..1.
    shares: Vec<f32>,
}

impl AxisPlaces {
    fn new(voxels: usize, spacing: f64) -> Self {
        let spacing = spacing.max(1.0);
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        let mut shares = Vec::with_capacity(voxels);
        for k in 0..voxels {
            let place = k as f64 / spacing;
            let first = place as usize;
            shares.push((place - first as f64) as f32);
            match runs.last_mut() {
                Some(run) if run.0 == first => run.2 = k + 1,
                _ => runs.push((first, k, k + 1)),
            }
        }
        let points = runs.last().map_or(4, |run| run.0 + 4);
        Self {
            points,
            runs,
            shares,
        }
    }

    /// The first of the four control points of a voxel, and their weights.
    fn weights(&self, voxel: usize) -> (usize, [f32; 4]) {
        let first = self
            .runs
            .partition_point(|run| run.2 <= voxel)
            .min(self.runs.len().saturating_sub(1));
        let t = self.shares[voxel];
        let s = 1.0 - t;
        let sixth = 1.0 / 6.0;
        let weights = [
            s * s * s * sixth,
            (3.0 * t * t * t - 6.0 * t * t + 4.0) * sixth,
            (3.0 * s * s * s - 6.0 * s * s + 4.0) * sixth,
            t * t * t * sixth,
        ];
        (self.runs[first].0, weights)
    }
}

/// Displacements along z, y and x over one lattice.
#[derive(Debug)]
pub(crate) struct Lattice {
    axes: [AxisPlaces; 3],
    /// Control points, `[axis][z, y, x]`; empty for an axis along which nothing moves.
    controls: [Vec<f32>; 3],
    /// Control points of one row.
    row: usize,
}

impl Lattice {
    /// Random displacements of an output of `shape`: `sigma` voxels smooth along each axis, with
    /// standard deviation `magnitude` voxels along each axis.
    pub(crate) fn random(
        shape: [usize; 3],
        sigma: [f64; 3],
        magnitude: [f64; 3],
        seed: u64,
        scratch: &mut Scratch,
    ) -> Self {
        let axes = [0, 1, 2].map(|k| AxisPlaces::new(shape[k], sigma[k] * 3f64.sqrt()));
        let count = axes.iter().map(|axis| axis.points).product::<usize>();
        let row = axes[2].points;
        let controls = [0, 1, 2].map(|k| {
            if magnitude[k] <= 0.0 {
                return scratch.floats(0);
            }
            let mut values = scratch.floats(count);
            fill_normals(&mut values, seed.wrapping_add(k as u64));
            let gain = (magnitude[k] / MEAN_SQUARE.powf(1.5)) as f32;
            values.iter_mut().for_each(|value| *value *= gain);
            values
        });
        Self {
            axes,
            controls,
            row,
        }
    }

    /// The displacements of row (z, y), one buffer of a row for each axis.
    pub(crate) fn row(&self, [z, y]: [usize; 2], buffers: &mut [Vec<f32>; 3]) {
        let (z_first, z_weights) = self.axes[0].weights(z);
        let (y_first, y_weights) = self.axes[1].weights(y);
        let [_, y_axis, x_axis] = &self.axes;
        let mut line = [0.0f32; 64];
        let mut long = Vec::new();
        // A row of control points, on the stack for any usual patch.
        let line = match line.get_mut(..self.row) {
            Some(line) => line,
            None => {
                long.resize(self.row, 0.0);
                &mut long[..]
            }
        };
        for (controls, out) in self.controls.iter().zip(buffers) {
            if controls.is_empty() {
                out.fill(0.0);
                continue;
            }
            line.fill(0.0);
            for (dz, wz) in z_weights.iter().enumerate() {
                for (dy, wy) in y_weights.iter().enumerate() {
                    let at = ((z_first + dz) * y_axis.points + y_first + dy) * self.row;
                    let weight = wz * wy;
                    for (sum, value) in line.iter_mut().zip(&controls[at..at + self.row]) {
                        *sum += weight * value;
                    }
                }
            }
            expand(x_axis, line, out);
        }
    }

    /// The mean displacement: exact, from the weights of all voxels on each control point.
    pub(crate) fn mean(&self) -> [f64; 3] {
        let sums = [0, 1, 2].map(|k| {
            let axis = &self.axes[k];
            let mut sums = vec![0.0f64; axis.points];
            for voxel in 0..axis.shares.len() {
                let (first, weights) = axis.weights(voxel);
                for (j, weight) in weights.iter().enumerate() {
                    sums[first + j] += f64::from(*weight) / axis.shares.len() as f64;
                }
            }
            sums
        });
        let [_, y_points, x_points] = [0, 1, 2].map(|k| self.axes[k].points);
        [0, 1, 2].map(|k| {
            let weighted = self.controls[k].iter().enumerate().map(|(flat, &value)| {
                let (z, y, x) = (
                    flat / (y_points * x_points),
                    flat / x_points % y_points,
                    flat % x_points,
                );
                f64::from(value) * sums[0][z] * sums[1][y] * sums[2][x]
            });
            weighted.sum()
        })
    }

    pub(crate) fn recycle(self, scratch: &mut Scratch) {
        self.controls
            .into_iter()
            .for_each(|axis| scratch.give(axis));
    }
}

vectorised! {
    /// Splines along a row: between two control points one cubic polynomial.
    fn expand(axis: &AxisPlaces, controls: &[f32], out: &mut [f32]) {
        for &(first, from, to) in &axis.runs {
            let [p, q, r, s] = [0, 1, 2, 3].map(|k| controls[first + k]);
            let sixth = 1.0 / 6.0;
            let a = (p + 4.0 * q + r) * sixth;
            let b = (r - p) * 0.5;
            let c = (p + r) * 0.5 - q;
            let d = (s - p) * sixth + (q - r) * 0.5;
            for (value, &t) in out[from..to].iter_mut().zip(&axis.shares[from..to]) {
                *value = ((d * t + c) * t + b) * t + a;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All displacements along one axis.
    fn dense(lattice: &Lattice, shape: [usize; 3], axis: usize) -> Vec<f32> {
        let mut buffers = [(); 3].map(|()| vec![0.0; shape[2]]);
        let mut all = Vec::new();
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                lattice.row([z, y], &mut buffers);
                all.extend_from_slice(&buffers[axis]);
            }
        }
        all
    }

    #[test]
    fn rows_agree_with_the_weights_of_single_voxels_and_with_the_mean() {
        let shape = [5, 9, 21];
        let scratch = &mut Scratch::new();
        let lattice = Lattice::random(shape, [1.0, 2.0, 3.1], [1.0, 0.0, 2.0], 3, scratch);
        let [z_axis, y_axis, x_axis] = &lattice.axes;
        for (axis, controls) in lattice.controls.iter().enumerate() {
            let found = dense(&lattice, shape, axis);
            let mean: f64 = found.iter().map(|&v| f64::from(v)).sum::<f64>() / found.len() as f64;
            assert!((mean - lattice.mean()[axis]).abs() < 1e-6);
            if controls.is_empty() {
                assert!(found.iter().all(|&v| v == 0.0));
                continue;
            }
            let (z, y, x) = (3, 7, 16);
            let ((z0, wz), (y0, wy), (x0, wx)) =
                (z_axis.weights(z), y_axis.weights(y), x_axis.weights(x));
            let mut expected = 0.0;
            for corner in 0..64 {
                let (i, j, k) = (corner / 16, corner / 4 % 4, corner % 4);
                let at = ((z0 + i) * y_axis.points + y0 + j) * x_axis.points + x0 + k;
                expected += wz[i] * wy[j] * wx[k] * controls[at];
            }
            let found = found[(z * shape[1] + y) * shape[2] + x];
            assert!((found - expected).abs() < 1e-5, "{found} not {expected}");
        }
    }

    #[test]
    fn displacements_have_the_asked_spread() {
        let shape = [60, 70, 80];
        let magnitude = [3.5, 1.0, 0.5];
        let lattice = Lattice::random(shape, [3.0; 3], magnitude, 11, &mut Scratch::new());
        for (axis, magnitude) in magnitude.into_iter().enumerate() {
            let values = dense(&lattice, shape, axis);
            let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            let spread = (square / values.len() as f64).sqrt();
            // Some thousand independent control points.
            assert!((spread / magnitude - 1.0).abs() < 0.1, "{axis}: {spread}");
        }
    }
}
