//! Gaussian blur.

use rand::Rng;

use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// Smooths channels with a Gaussian kernel whose width is drawn for each axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianBlur {
    /// Probability that a channel is smoothed.
    pub channel_probability: f64,
    /// Standard deviation in voxels.
    pub sigma: Interval,
}

impl Transform for GaussianBlur {
    fn name(&self) -> &'static str {
        "gaussian_blur"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::GaussianBlur {
            sigmas: per_channel(info, self.channel_probability, rng, |rng| {
                [(); 3].map(|()| self.sigma.draw(rng))
            }),
        }
    }
}

/// Smooths one channel of the given shape (`[z, y, x]`) axis by axis, x last. The patch is
/// continued by reflection at its outermost voxels.
pub(crate) fn smooth(image: &mut [f32], shape: [usize; 3], sigmas: [f64; 3]) {
    let [nz, ny, nx] = shape;
    let mut copy = vec![0.0; ny.max(nz) * nx];
    // Along z: for each y, the rows of all slices.
    let kernel = kernel(sigmas[0]);
    if kernel.len() > 1 {
        for y in 0..ny {
            let start = |z: usize| (z * ny + y) * nx;
            for (z, row) in copy.chunks_exact_mut(nx).take(nz).enumerate() {
                row.copy_from_slice(&image[start(z)..][..nx]);
            }
            for z in 0..nz {
                combine_rows(&mut image[start(z)..][..nx], &copy, z, nz, &kernel);
            }
        }
    }
    // Along y: for each slice, its rows.
    let kernel = self::kernel(sigmas[1]);
    if kernel.len() > 1 {
        for slice in image.chunks_exact_mut(ny * nx) {
            copy[..ny * nx].copy_from_slice(slice);
            for (y, row) in slice.chunks_exact_mut(nx).enumerate() {
                combine_rows(row, &copy, y, ny, &kernel);
            }
        }
    }
    // Along x: each row, with its reflection at both ends.
    let kernel = self::kernel(sigmas[2]);
    if kernel.len() > 1 {
        let radius = kernel.len() / 2;
        let mut padded = vec![0.0; nx + 2 * radius];
        for row in image.chunks_exact_mut(nx) {
            padded[radius..radius + nx].copy_from_slice(row);
            for k in 0..radius {
                padded[k] = row[reflect(k as isize - radius as isize, nx)];
                padded[radius + nx + k] = row[reflect((nx + k) as isize, nx)];
            }
            row.fill(0.0);
            for (offset, &weight) in kernel.iter().enumerate() {
                accumulate(row, &padded[offset..offset + nx], weight);
            }
        }
    }
}

/// `out` = Σ weight · row around row `at` of the `count` rows in `rows`.
fn combine_rows(out: &mut [f32], rows: &[f32], at: usize, count: usize, kernel: &[f32]) {
    let length = out.len();
    let radius = (kernel.len() / 2) as isize;
    out.fill(0.0);
    for (offset, &weight) in kernel.iter().enumerate() {
        let row = reflect(at as isize + offset as isize - radius, count);
        accumulate(out, &rows[row * length..][..length], weight);
    }
}

/// `out` += `weight` · `row`.
fn accumulate(out: &mut [f32], row: &[f32], weight: f32) {
    for (sum, &value) in out.iter_mut().zip(row) {
        *sum += weight * value;
    }
}

/// The voxel that stands at `index` when `count` voxels are continued by reflection without
/// repeating the outermost: … 2 1 | 0 1 2 … .
fn reflect(index: isize, count: usize) -> usize {
    let last = count as isize - 1;
    if last == 0 {
        return 0;
    }
    let index = index.rem_euclid(2 * last);
    index.min(2 * last - index) as usize
}

/// The weights exp(−x² / 2σ²) at whole x, normalised. Their number is the odd integer nearest to
/// 6 σ + 0.5 as batchgeneratorsv2 rounds it: half to even, then away from an even result
/// towards 6 σ + 0.5. One weight for σ = 0.
pub(crate) fn kernel(sigma: f64) -> Vec<f32> {
    let width = 6.0 * sigma + 0.5;
    let mut taps = width.round_ties_even();
    if taps % 2.0 == 0.0 {
        taps += if width >= taps { 1.0 } else { -1.0 };
    }
    let taps = taps.max(1.0) as usize;
    if taps == 1 {
        return vec![1.0];
    }
    let centre = (taps / 2) as f64;
    let weights: Vec<f64> = (0..taps)
        .map(|k| (-0.5 * ((k as f64 - centre) / sigma).powi(2)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights
        .into_iter()
        .map(|weight| (weight / sum) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_sizes_change_at_the_documented_widths() {
        for (sigma, taps) in [
            (0.0, 1),
            (0.58, 3),
            (0.59, 5),
            (0.91, 5),
            (0.92, 7),
            (1.0, 7),
        ] {
            assert_eq!(kernel(sigma).len(), taps, "sigma {sigma}");
        }
    }

    #[test]
    fn reflection_leaves_out_the_edge_and_works_for_short_axes() {
        let found: Vec<_> = (-4..7).map(|k| reflect(k, 3)).collect();
        assert_eq!(found, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(reflect(-3, 1), 0);
    }

    #[test]
    fn a_point_becomes_the_product_of_the_kernels() {
        let (shape, sigmas) = ([9, 8, 7], [0.5, 0.8, 1.0]);
        let mut image = vec![0.0f32; 9 * 8 * 7];
        image[(4 * 8 + 4) * 7 + 3] = 1.0;
        smooth(&mut image, shape, sigmas);
        let [kz, ky, kx] = sigmas.map(kernel);
        let at = |kernel: &[f32], distance: isize| {
            let index = (kernel.len() / 2) as isize + distance;
            usize::try_from(index)
                .ok()
                .and_then(|k| kernel.get(k).copied())
                .unwrap_or(0.0)
        };
        // Away from the border, where reflection adds nothing.
        for (z, y, x) in [(4, 4, 3), (3, 4, 3), (4, 2, 3), (5, 5, 5), (4, 4, 1)] {
            let expected = at(&kz, z - 4) * at(&ky, y - 4) * at(&kx, x - 3);
            let found = image[((z * 8 + y) * 7 + x) as usize];
            assert!(
                (found - expected).abs() < 1e-7,
                "({z}, {y}, {x}): {found} not {expected}"
            );
        }
    }
}
