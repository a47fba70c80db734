//! How much each voxel of a tile counts.

use ndarray::Array3;

/// The weight of every voxel of a tile, `[z, y, x]`: a Gaussian around the middle with σ = size / 8
/// along each axis and maximum 10, so that predictions near a tile's border, where context is
/// missing, count little.
///
/// nnU-Net's map, with its floor: weights that half precision would round to zero become the
/// smallest one it can hold, 2⁻²⁴, so that no voxel is left without any weight. Kept in f32.
pub fn importance_map(tile: [usize; 3]) -> Array3<f32> {
    const SMALLEST_HALF: f64 = 1.0 / 16_777_216.0;
    let profiles = tile.map(|n| {
        let (centre, sigma) = ((n / 2) as f64, n as f64 / 8.0);
        (0..n)
            .map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp())
            .collect::<Vec<_>>()
    });
    Array3::from_shape_fn(tile, |(z, y, x)| {
        let weight = 10.0 * profiles[0][z] * profiles[1][y] * profiles[2][x];
        weight.max(SMALLEST_HALF) as f32
    })
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
}
