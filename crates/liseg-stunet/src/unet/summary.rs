//! What a plain U-Net costs.

use super::UnetConfig;
use crate::Summary;
use crate::cost::{Cost, check_patch, grids, voxels};
use liseg_nn::Result;
use liseg_nn::tch::Kind;

impl UnetConfig {
    /// What the network costs on a patch of `patch` voxels (z, y, x).
    ///
    /// # Errors
    /// When the strides do not divide the patch, or the config makes no network.
    pub fn summary(&self, patch: [usize; 3]) -> Result<Summary> {
        self.check()?;
        check_patch(patch, self.stride_product())?;
        let shapes = grids(patch, &self.strides);
        let features = &self.features_per_stage;
        let taps = |stage: usize| self.kernel_sizes[stage].iter().product::<i64>() as u64;
        let mut stages = Vec::with_capacity(2 * self.stages() - 1);
        let mut inputs = self.input_channels;
        for (stage, &outputs) in features.iter().enumerate() {
            let mut cost = Cost::new(shapes[stage]);
            for _ in 0..self.convolutions {
                cost.convolution(inputs, outputs, taps(stage));
                cost.norm(outputs);
                inputs = outputs;
            }
            stages.push(cost.named(format!("encoder {stage}"), outputs));
        }
        for (scale, stage) in (0..self.stages() - 1).rev().enumerate() {
            let (below, width) = (features[stage + 1], features[stage]);
            let mut cost = Cost::new(shapes[stage]);
            cost.transposed_convolution(below, width, self.strides[stage]);
            let mut inputs = 2 * width;
            for _ in 0..self.convolutions {
                cost.convolution(inputs, width, taps(stage));
                cost.norm(width);
                inputs = width;
            }
            cost.convolution(width, self.classes, 1);
            stages.push(cost.named(format!("decoder {scale}"), width));
        }
        Ok(Summary::of_stages(
            patch,
            stages,
            self.activation_bytes(patch),
            self.inference_bytes(patch, 1, Kind::Float),
        ))
    }

    /// The memory, in bytes, of what one training step on a patch keeps for the backward pass for
    /// every sample, in f32: the outputs of all convolutions and norms, and the joined maps of the
    /// decoder. With checkpointing only the maps between stages and those of the largest stage.
    pub fn activation_bytes(&self, patch: [usize; 3]) -> u64 {
        let (mut kept, mut between, mut largest) = (0u64, 0u64, 0);
        for (stage, &shape) in grids(patch, &self.strides).iter().enumerate() {
            let map = voxels(shape).saturating_mul(self.features_per_stage[stage] as u64);
            let inside = map
                .saturating_mul(2)
                .saturating_mul(self.convolutions as u64);
            let both = inside
                .saturating_mul(2)
                .saturating_add(map.saturating_mul(3));
            let decoder = stage + 1 < self.stages();
            kept = kept.saturating_add(if decoder { both } else { inside });
            between = between.saturating_add(map.saturating_mul(if decoder { 2 } else { 1 }));
            largest = largest.max(inside);
        }
        let numbers = if self.checkpointing {
            between.saturating_add(largest)
        } else {
            kept
        };
        numbers.saturating_mul(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unet;
    use liseg_nn::SegmentationNet;
    use liseg_nn::tch::Device;
    use liseg_volume::{Seed, Spacing};

    #[test]
    fn parameters_are_those_of_the_network_itself() {
        let spacing = Spacing::new(3.0, 1.0, 1.0).unwrap();
        let config = UnetConfig {
            input_channels: 2,
            features_per_stage: vec![4, 6, 8],
            ..UnetConfig::for_grid(spacing, &[[1, 2, 2], [2, 2, 2]], 3)
        };
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = Unet::new(&config, Device::Cpu, &mut rng).unwrap();
        let summary = config.summary([4, 16, 16]).unwrap();
        assert_eq!(summary.parameters, net.parameters().count() as u64);
        assert_eq!(summary.stages[2].shape, [2, 4, 4]);
        assert!(config.summary([3, 16, 16]).is_err());
        let lean = UnetConfig {
            checkpointing: true,
            ..config.clone()
        };
        assert!(2 * lean.activation_bytes([4, 16, 16]) < 3 * config.activation_bytes([4, 16, 16]));
    }

    /// The default network of nnU-Net at its usual patch has 31.2 M parameters (two classes, one
    /// channel), as its authors' logs say.
    #[test]
    fn the_usual_network_has_the_usual_size() {
        let spacing = Spacing::new(1.5, 1.5, 1.5).unwrap();
        let summary = UnetConfig::for_grid(spacing, &[[2; 3]; 5], 2)
            .summary([128; 3])
            .unwrap();
        assert_eq!(summary.parameters, 31_195_594);
    }
}
