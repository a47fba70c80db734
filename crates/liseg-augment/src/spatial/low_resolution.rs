//! Simulated low resolution.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::spline::{prefilter, weights};
use crate::simd::vectorised;
use crate::transform::{in_plane_only, per_channel};
use crate::{Interval, OnChannel, Params, PatchInfo, Scratch, Transform};

/// How a coarse grid is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadBack {
    /// Linearly, in the arithmetic of torch (nnU-Net v2).
    #[default]
    Linear,
    /// By cubic splines, clamped to the range of the channel (nnU-Net v1).
    Cubic,
}

/// Samples channels on a coarser grid (nearest voxel) and interpolates them back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowResolution {
    /// Probability that a channel is coarsened.
    pub channel_probability: f64,
    /// Size of the coarse grid over that of the patch, one for all axes.
    pub factor: Interval,
    /// Patches with max(shape) / shape\[0\] above this keep their slices.
    pub in_plane_ratio: f64,
    /// How the coarse grid is read back.
    pub read_back: ReadBack,
}

impl Transform for LowResolution {
    fn name(&self) -> &'static str {
        "low_resolution"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let in_plane = in_plane_only(info.final_shape, self.in_plane_ratio);
        Params::LowResolution {
            factors: per_channel(info, self.channel_probability, rng, |rng| {
                let factor = self.factor.draw(rng);
                [if in_plane { 1.0 } else { factor }, factor, factor]
            }),
            read_back: self.read_back,
        }
    }
}

/// Simulates thick slices: all channels on a grid that is coarser along one axis, drawn anew for
/// each patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anisotropy {
    /// How many voxels become one slice.
    pub thickness: Interval,
}

impl Transform for Anisotropy {
    fn name(&self) -> &'static str {
        "anisotropy"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let mut value = [1.0; 3];
        value[rng.random_range(0..3)] = 1.0 / self.thickness.draw(rng).max(1.0);
        Params::LowResolution {
            factors: (0..info.channels)
                .map(|channel| OnChannel { channel, value })
                .collect(),
            read_back: ReadBack::Linear,
        }
    }
}

/// Where one axis of the patch reads the coarse grid: `lower`, `lower + 1` (or the last) and the
/// share of the latter.
struct Reading {
    lower: usize,
    upper: usize,
    share: f32,
}

/// One axis: which voxels the coarse grid keeps, and how it is read back.
struct AxisMap {
    kept: Vec<usize>,
    readings: Vec<Reading>,
}

impl AxisMap {
    /// Centres of coarse and fine voxels are aligned. Arithmetic in f32, as torch's
    /// "nearest-exact" and "linear" interpolation, so that ties fall alike.
    fn new(count: usize, factor: f64) -> Self {
        let coarse = (count as f64 * f64::from(factor as f32))
            .round_ties_even()
            .max(1.0) as usize;
        let down = count as f32 / coarse as f32;
        let kept = (0..coarse)
            .map(|k| (((k as f32 + 0.5) * down).floor() as usize).min(count - 1))
            .collect();
        let up = coarse as f32 / count as f32;
        let readings = (0..count)
            .map(|k| {
                let position = (up * (k as f32 + 0.5) - 0.5).max(0.0);
                let lower = (position as usize).min(coarse - 1);
                let upper = (lower + 1).min(coarse - 1);
                Reading {
                    lower,
                    upper,
                    share: position - lower as f32,
                }
            })
            .collect();
        Self { kept, readings }
    }
}

/// Coarsens one channel of the given shape (`[z, y, x]`) by the factors of each axis.
pub(crate) fn coarsen(
    image: &mut [f32],
    shape: [usize; 3],
    factors: [f64; 3],
    read_back: ReadBack,
    scratch: &mut Scratch,
) {
    match read_back {
        ReadBack::Linear => {
            let maps = [0, 1, 2].map(|axis| AxisMap::new(shape[axis], factors[axis]));
            coarsen_linearly(image, shape, &maps, scratch);
        }
        ReadBack::Cubic => coarsen_cubically(image, shape, factors, scratch),
    }
}

fn coarsen_linearly(
    image: &mut [f32],
    [_, ny, nx]: [usize; 3],
    [z_map, y_map, x_map]: &[AxisMap; 3],
    scratch: &mut Scratch,
) {
    let (my, mx) = (y_map.kept.len(), x_map.kept.len());
    let mut coarse = scratch.floats(z_map.kept.len() * my * mx);
    let mut rows = coarse.chunks_exact_mut(mx);
    for &z in &z_map.kept {
        for (&y, out) in y_map.kept.iter().zip(&mut rows) {
            let row = &image[(z * ny + y) * nx..][..nx];
            for (out, &x) in out.iter_mut().zip(&x_map.kept) {
                *out = row[x];
            }
        }
    }
    // Axis after axis, so that each voxel costs one interpolation along x, and the others are
    // shared: a coarse slice for each z, a coarse row for each y.
    let mut slice = scratch.floats(my * mx);
    let mut row = scratch.floats(mx);
    for (reading, out) in z_map.readings.iter().zip(image.chunks_exact_mut(ny * nx)) {
        mix(&mut slice, &coarse, reading);
        for (reading, out) in y_map.readings.iter().zip(out.chunks_exact_mut(nx)) {
            mix(&mut row, &slice, reading);
            for (reading, value) in x_map.readings.iter().zip(out) {
                let (lower, upper) = (row[reading.lower], row[reading.upper]);
                *value = lower + (upper - lower) * reading.share;
            }
        }
    }
    [coarse, slice, row]
        .into_iter()
        .for_each(|buffer| scratch.give(buffer));
}

vectorised! {
    /// Interpolates between two of the blocks that `blocks` is made of.
    fn mix(out: &mut [f32], blocks: &[f32], reading: &Reading) {
        let length = out.len();
        let lower = &blocks[reading.lower * length..][..length];
        if reading.share == 0.0 {
            out.copy_from_slice(lower);
            return;
        }
        let upper = &blocks[reading.upper * length..][..length];
        for ((value, &lower), &upper) in out.iter_mut().zip(lower).zip(upper) {
            *value = lower + (upper - lower) * reading.share;
        }
    }
}

/// Nearest down and cubic up as scikit-image resizes: half-pixel centres, lines continued with
/// their edge value, the result clamped to the range of what was resized.
fn coarsen_cubically(
    image: &mut [f32],
    shape: [usize; 3],
    factors: [f64; 3],
    scratch: &mut Scratch,
) {
    let coarse_shape = [0, 1, 2].map(|axis| {
        let coarse = (shape[axis] as f64 * factors[axis]).round_ties_even();
        (coarse as usize).clamp(1, shape[axis])
    });
    let kept = [0, 1, 2].map(|axis| {
        let (n, m) = (shape[axis], coarse_shape[axis]);
        let zoom = n as f64 / m as f64;
        let index = |k: usize| {
            let x = ((k as f64 + 0.5) * zoom - 0.5).clamp(0.0, n as f64 - 1.0);
            (x + 0.5).floor() as usize
        };
        (0..m).map(index).collect::<Vec<_>>()
    });
    let [_, ny, nx] = shape;
    let mut volume = scratch.floats(coarse_shape.iter().product());
    let mut values = volume.iter_mut();
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for &z in &kept[0] {
        for &y in &kept[1] {
            for (&x, out) in kept[2].iter().zip(&mut values) {
                *out = image[(z * ny + y) * nx + x];
                (low, high) = (low.min(*out), high.max(*out));
            }
        }
    }
    let mut current = coarse_shape;
    for axis in 0..3 {
        if current[axis] == shape[axis] {
            continue;
        }
        let operator = operator(current[axis], shape[axis]);
        let mut next = current;
        next[axis] = shape[axis];
        let mut result = scratch.floats(next.iter().product());
        let inner: usize = current[axis + 1..].iter().product();
        let blocks = volume.chunks_exact(current[axis] * inner);
        for (from, to) in blocks.zip(result.chunks_exact_mut(next[axis] * inner)) {
            for (out, (first, weights)) in to.chunks_exact_mut(inner).zip(&operator) {
                combine(out, &from[first * inner..], weights);
            }
        }
        scratch.give(std::mem::replace(&mut volume, result));
        current = next;
    }
    for (out, value) in image.iter_mut().zip(&volume) {
        let value = if *value > high { high } else { *value };
        *out = if value < low { low } else { value };
    }
    scratch.give(volume);
}

vectorised! {
    /// `out` = Σ weight · row, over the rows that `rows` begins with.
    fn combine(out: &mut [f32], rows: &[f32], weights: &[f32]) {
        let length = out.len();
        out.fill(0.0);
        for (weight, row) in weights.iter().zip(rows.chunks_exact(length)) {
            for (sum, value) in out.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
    }
}

/// For each of `fine` outputs the first of the `coarse` inputs that it depends on, and its
/// weights. An input's weight is the spline through an impulse there.
fn operator(coarse: usize, fine: usize) -> Vec<(usize, Vec<f32>)> {
    /// Edge values before and after a line: their end is not felt beyond.
    const PAD: usize = 24;
    let padded = coarse + 2 * PAD;
    let mut matrix = vec![0.0f64; fine * coarse];
    let zoom = coarse as f64 / fine as f64;
    for impulse in 0..coarse {
        let mut line = vec![0.0f32; padded];
        for (k, value) in line.iter_mut().enumerate() {
            let at = k.saturating_sub(PAD).min(coarse - 1);
            *value = if at == impulse { 1.0 } else { 0.0 };
        }
        prefilter(&mut line, [1, 1, padded]);
        for k in 0..fine {
            let x = (k as f64 + 0.5) * zoom - 0.5 + PAD as f64;
            let floor = x.floor();
            let taps = weights((x - floor) as f32).into_iter();
            let line = &line[floor as usize - 1..];
            matrix[k * coarse + impulse] = taps
                .zip(line)
                .map(|(w, c)| f64::from(w) * f64::from(*c))
                .sum();
        }
    }
    matrix
        .chunks_exact(coarse)
        .map(|row| {
            // What no float notices is left out.
            let felt = |weight: &&f64| weight.abs() > 1e-9;
            let first = row.iter().take_while(|w| !felt(w)).count().min(coarse - 1);
            let behind = row.iter().rev().take_while(|w| !felt(w)).count();
            let last = (coarse - behind).max(first + 1);
            (first, row[first..last].iter().map(|&w| w as f32).collect())
        })
        .collect()
}
