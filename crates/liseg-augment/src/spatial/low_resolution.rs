//! Simulated low resolution.

use rand::Rng;

use crate::transform::{in_plane_only, per_channel};
use crate::{Interval, Params, PatchInfo, Transform};

/// Samples channels on a coarser grid (nearest voxel) and interpolates them back (linearly).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowResolution {
    /// Probability that a channel is coarsened.
    pub channel_probability: f64,
    /// Size of the coarse grid over that of the patch, one for all axes.
    pub factor: Interval,
    /// Patches with max(shape) / shape\[0\] above this keep their slices.
    pub in_plane_ratio: f64,
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
pub(crate) fn coarsen(image: &mut [f32], shape: [usize; 3], factors: [f64; 3]) {
    let [_, ny, nx] = shape;
    let [z_map, y_map, x_map] = [0, 1, 2].map(|axis| AxisMap::new(shape[axis], factors[axis]));
    let (my, mx) = (y_map.kept.len(), x_map.kept.len());
    let mut coarse = Vec::with_capacity(z_map.kept.len() * my * mx);
    for &z in &z_map.kept {
        for &y in &y_map.kept {
            let row = &image[(z * ny + y) * nx..][..nx];
            coarse.extend(x_map.kept.iter().map(|&x| row[x]));
        }
    }
    // Axis after axis, so that each voxel costs one interpolation along x, and the others are
    // shared: a coarse slice for each z, a coarse row for each y.
    let mut slice = vec![0.0; my * mx];
    let mut row = vec![0.0; mx];
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
}

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
