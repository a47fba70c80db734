//! How much memory a forward pass takes.

use crate::cost::grids;
use crate::{StuNetConfig, UnetConfig};
use liseg_nn::tch::Kind;

impl StuNetConfig {
    /// The memory, in bytes, that a forward pass without gradients takes at its worst on `batch`
    /// patches of `patch` voxels (z, y, x), in activations of `kind`; weights are left out.
    ///
    /// Follows the network's own order: the skip maps that wait, and the maps that a block holds at
    /// once — its input, the two convolutions' results as far as they live, the shortcut and the
    /// sum. The finest decoder block is the worst for every published size.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        let maps = maps(patch, &self.strides, &self.widths);
        let waiting = |stage: usize| maps[..stage].iter().sum::<u64>();
        let encoder = (0..6).map(|stage| waiting(stage) + 4 * maps[stage]);
        // Input of twice the width, then four maps.
        let decoder = (0..5).map(|stage| waiting(stage) + 6 * maps[stage]);
        let worst = encoder.chain(decoder).max().unwrap_or(0);
        let ends = ends(patch, self.input_channels, self.classes);
        batch as u64 * (worst * kind.elt_size_in_bytes() as u64 + ends)
    }
}

impl UnetConfig {
    /// As [`StuNetConfig::inference_bytes`]; a convolution holds its input, its result and the
    /// normalised copy of that.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        let maps = maps(patch, &self.strides, &self.features_per_stage);
        let waiting = |stage: usize| maps[..stage].iter().sum::<u64>();
        let encoder = (0..maps.len()).map(|stage| waiting(stage) + 3 * maps[stage]);
        // Input of twice the width, then two maps.
        let decoder = (0..maps.len() - 1).map(|stage| waiting(stage) + 4 * maps[stage]);
        let worst = encoder.chain(decoder).max().unwrap_or(0);
        let ends = ends(patch, self.input_channels, self.classes);
        batch as u64 * (worst * kind.elt_size_in_bytes() as u64 + ends)
    }
}

/// Numbers in a map of each stage.
fn maps(patch: [usize; 3], strides: &[[usize; 3]], widths: &[i64]) -> Vec<u64> {
    let voxels = |shape: &[usize; 3]| shape.iter().product::<usize>() as u64;
    let shapes = grids(patch, strides);
    shapes
        .iter()
        .zip(widths)
        .map(|(shape, &width)| voxels(shape) * width as u64)
        .collect()
}

/// The input and the logits in f32, and what softmax makes of them, in bytes.
fn ends(patch: [usize; 3], channels: i64, classes: i64) -> u64 {
    let voxels = patch.iter().product::<usize>() as u64;
    4 * voxels * (channels as u64 + 2 * classes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_decoder_block_is_the_worst() {
        let config = StuNetConfig::small(2);
        let voxels = 64 * 64 * 64u64;
        let expected = 6 * 16 * voxels * 4 + voxels * 5 * 4;
        assert_eq!(config.inference_bytes([64; 3], 1, Kind::Float), expected);
        let narrow = config.inference_bytes([64; 3], 2, Kind::BFloat16);
        assert_eq!(narrow, 2 * (6 * 16 * voxels * 2 + voxels * 5 * 4));
    }
}
