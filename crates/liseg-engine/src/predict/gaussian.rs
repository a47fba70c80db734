//! How much each voxel of a tile counts.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// How the predictions of overlapping tiles are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// By [`importance_map`].
    #[default]
    Gaussian,
    /// All alike.
    Uniform,
}

impl Weighting {
    /// The weights along an axis of `size` voxels; a voxel of a tile counts with the product of its
    /// three.
    pub(super) fn profile(self, size: usize) -> Vec<f64> {
        match self {
            Self::Gaussian => importance_profile(size),
            Self::Uniform => vec![1.0; size],
        }
    }
}

/// The Gaussian of an axis of `size` voxels: exp(−(i − ⌊n/2⌋)² / (2 σ²)) with σ = n / 8.
pub fn importance_profile(size: usize) -> Vec<f64> {
    let (centre, sigma) = ((size / 2) as f64, size as f64 / 8.0);
    (0..size)
        .map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp())
        .collect()
}

/// The weight of every voxel of a tile, `[z, y, x]`: the product of the three [`importance_profile`]s,
/// with maximum 10, so that predictions near a tile's border, where context is missing, count
/// little.
///
/// nnU-Net's map in f32. Its reference rounds the map to half precision and lifts what became zero
/// to 2⁻²⁴; neither is done here, because sums are kept in f32.
pub fn importance_map(tile: [usize; 3]) -> Array3<f32> {
    let profiles = tile.map(importance_profile);
    Array3::from_shape_fn(tile, |(z, y, x)| {
        (10.0 * profiles[0][z] * profiles[1][y] * profiles[2][x]) as f32
    })
}

/// For each tile that starts at one of `starts`, the share that each of its voxels has of the weight of
/// all tiles at that place of the axis.
///
/// Tiles lie on a grid, so the summed weight of a voxel is the product of the sums along its three
/// axes. Weighting with shares leaves nothing to divide by in the end: a voxel that one tile alone
/// covers, at the edge of the image, gets exactly that tile's value, in any number format.
pub(super) fn shares(profile: &[f64], starts: &[usize]) -> Vec<Vec<f32>> {
    let length = starts.last().map_or(0, |last| last + profile.len());
    let mut sums = vec![0.0f64; length];
    for &start in starts {
        for (sum, weight) in sums[start..].iter_mut().zip(profile) {
            *sum += weight;
        }
    }
    let share = |&start: &usize| {
        let sums = sums[start..].iter();
        profile
            .iter()
            .zip(sums)
            .map(|(w, s)| (w / s) as f32)
            .collect()
    };
    starts.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_in_the_middle_and_vanishes_nowhere() {
        let map = importance_map([8, 16, 32]);
        assert!((map[[4, 8, 16]] - 10.0).abs() < 1e-6);
        assert!(map.iter().all(|&w| w > 0.0 && w <= 10.0));
        // One σ (here 4 voxels) off centre along x.
        assert!((map[[4, 8, 20]] - 10.0 * (-0.5f32).exp()).abs() < 1e-5);
    }

    #[test]
    fn shares_of_a_place_sum_to_one() {
        let starts = [0, 3, 7];
        for weighting in [Weighting::Gaussian, Weighting::Uniform] {
            let shares = shares(&weighting.profile(8), &starts);
            let mut sums = [0.0f32; 15];
            for (start, shares) in starts.iter().zip(&shares) {
                for (sum, share) in sums[*start..].iter_mut().zip(shares) {
                    *sum += share;
                }
            }
            assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6), "{sums:?}");
            assert!((shares[0][0] - 1.0).abs() < f32::EPSILON);
        }
    }
}
