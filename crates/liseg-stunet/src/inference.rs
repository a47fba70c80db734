//! How much memory a forward pass takes.

use crate::cost::{grids, voxels};
use crate::{StuNetConfig, UnetConfig};
use liseg_nn::tch::Kind;

impl StuNetConfig {
    /// The memory, in bytes, that a forward pass without gradients takes at its worst on `batch`
    /// patches of `patch` voxels (z, y, x), in activations of `kind`, on a CPU: input, maps, logits in f32,
    /// and the weights of a convolution as it rearranges them. The weights themselves are left out.
    ///
    /// Follows the network's own order: the skip maps that wait, and what a block holds at once. In the
    /// encoder that are three maps; in the decoder two joined ones and three of its own, one of which the
    /// 1×1×1 convolution takes for itself. The finest decoder block is the worst for every published size.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        let pass = Pass {
            patch,
            batch,
            kind,
            channels: self.input_channels,
            classes: self.classes,
        };
        pass.bytes(&self.strides, &self.widths, [3, 5])
    }
}

impl UnetConfig {
    /// As [`StuNetConfig::inference_bytes`]; a convolution of the encoder holds its input and its result.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        let pass = Pass {
            patch,
            batch,
            kind,
            channels: self.input_channels,
            classes: self.classes,
        };
        pass.bytes(&self.strides, &self.features_per_stage, [2, 4])
    }
}

/// A forward pass of some network.
struct Pass {
    patch: [usize; 3],
    batch: usize,
    kind: Kind,
    channels: i64,
    classes: i64,
}

impl Pass {
    /// With strides between stages, channels of each stage, and the maps that a block holds at once: of the
    /// encoder beside its input, of the decoder with it.
    fn bytes(&self, strides: &[[usize; 3]], widths: &[i64], [encoding, decoding]: [u64; 2]) -> u64 {
        let number = self.kind.elt_size_in_bytes() as u64;
        let times = u64::saturating_mul;
        let voxels = |shape: [usize; 3]| times(voxels(shape), self.batch as u64);
        let shapes = grids(self.patch, strides);
        let maps: Vec<u64> = shapes
            .iter()
            .zip(widths)
            .map(|(&shape, &width)| times(voxels(shape), width as u64))
            .collect();
        let waiting = |stage: usize| maps[..stage].iter().copied().fold(0, u64::saturating_add);
        // A kernel of 3×3×3 channels-last, in the order that oneDNN wants, and narrowed where it is.
        let copies = if self.kind == Kind::Float { 2 } else { 3 };
        let kernel = |stage: usize| {
            times(
                times(widths[stage] as u64, widths[stage] as u64),
                copies * 27,
            )
        };
        let at = |stage: usize, held: u64, kernels: u64| {
            let inside = times(held, maps[stage]).saturating_add(times(kernels, kernel(stage)));
            waiting(stage).saturating_add(inside)
        };
        let encoder = (0..maps.len()).map(|s| at(s, encoding, 1));
        let decoder = (0..maps.len() - 1).map(|s| at(s, decoding, 2));
        let stages = encoder.chain(decoder).max().unwrap_or(0);
        let patch = voxels(self.patch);
        let logits = times(patch, self.classes as u64);
        // The last map gives logits, which are then widened.
        let widened = if number == 4 { 0 } else { times(4, logits) };
        let head = times(maps[0].saturating_add(logits), number).saturating_add(widened);
        let input = times(times(4, patch), self.channels as u64);
        input.saturating_add(times(stages, number).max(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_decoder_block_is_the_worst_but_for_many_classes() {
        let config = StuNetConfig::small(2);
        let voxels = 64 * 64 * 64u64;
        let kernel = 2 * 27 * 16 * 16;
        let expected = 4 * voxels + (5 * 16 * voxels + 2 * kernel) * 4;
        assert_eq!(config.inference_bytes([64; 3], 1, Kind::Float), expected);
        let narrow = config.inference_bytes([64; 3], 2, Kind::BFloat16);
        assert_eq!(
            narrow,
            2 * 4 * voxels + (2 * 5 * 16 * voxels + 3 * kernel) * 2
        );
        let many = StuNetConfig::small(105).inference_bytes([64; 3], 1, Kind::Float);
        assert_eq!(many, 4 * voxels + (16 + 105) * voxels * 4);
    }
}
