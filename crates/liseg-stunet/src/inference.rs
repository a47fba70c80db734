//! How much memory a forward pass takes.

use crate::StuNetConfig;
use liseg_nn::SegmentationNet;
use liseg_nn::tch::Kind;

impl StuNetConfig {
    /// The memory, in bytes, that a forward pass without gradients takes at its worst on `batch`
    /// patches of `patch` voxels (z, y, x), in activations of `kind`; weights are left out.
    ///
    /// Follows the network's own order: the skip maps that wait, and the maps that a block holds at
    /// once — its input, the two convolutions' results as far as they live, the shortcut and the
    /// sum. The finest decoder block is the worst for every published size.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        let element = if kind == Kind::Float { 4 } else { 2 };
        let mut shape = patch;
        let mut maps = [0u64; 6];
        for (stage, map) in maps.iter_mut().enumerate() {
            if stage > 0 {
                shape = std::array::from_fn(|a| shape[a].div_ceil(self.strides[stage - 1][a]));
            }
            let voxels: u64 = shape.iter().map(|&n| n as u64).product();
            *map = voxels * self.widths[stage] as u64;
        }
        let waiting = |stage: usize| maps[..stage].iter().sum::<u64>();
        let encoder = (0..6).map(|stage| waiting(stage) + 4 * maps[stage]);
        // Input of twice the width, then four maps.
        let decoder = (0..5).map(|stage| waiting(stage) + 6 * maps[stage]);
        let worst = encoder.chain(decoder).max().unwrap_or(0);
        let voxels: u64 = patch.iter().map(|&n| n as u64).product();
        // The input and the logits in f32, and what softmax makes of them.
        let ends = voxels * (self.input_channels as u64 + 2 * self.classes as u64) * 4;
        batch as u64 * (worst * element + ends)
    }
}

impl crate::StuNet {
    /// [`StuNetConfig::inference_bytes`] on the device and in the precision of this network.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize) -> u64 {
        let kind = self.config().precision.kind(self.parameters().device());
        self.config().inference_bytes(patch, batch, kind)
    }
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
