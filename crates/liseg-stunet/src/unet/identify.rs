//! Knowing a plain U-Net by its weights.

use super::UnetConfig;
use liseg_nn::{Precision, TensorMap};

impl UnetConfig {
    /// The shape of the plain U-Net that these weights belong to, known from names and shapes alone,
    /// strides included; nothing when they belong to another network.
    pub fn of_weights(tensors: &TensorMap) -> Option<Self> {
        let size = |name: &str| tensors.get(name).map(|t| t.size());
        let convolution = |stage: usize, i: usize| {
            size(&format!("encoder.stages.{stage}.0.convs.{i}.conv.weight"))
        };
        let (mut features, mut kernels) = (Vec::new(), Vec::new());
        while let Some(&[outputs, _, kz, ky, kx]) = convolution(features.len(), 0).as_deref() {
            features.push(outputs);
            kernels.push([kz, ky, kx]);
        }
        let stages = features.len();
        let mut strides = Vec::new();
        for scale in (0..stages.checked_sub(1)?).rev() {
            let upsample = size(&format!("decoder.transpconvs.{scale}.weight"))?;
            let &[_, _, z, y, x] = upsample.as_slice() else {
                return None;
            };
            strides.push([z, y, x].map(|s| s as usize));
        }
        let &[_, input_channels, ..] = convolution(0, 0)?.as_slice() else {
            return None;
        };
        let classes = (0..stages).rev().find_map(|scale| {
            size(&format!("decoder.seg_layers.{scale}.weight"))?
                .first()
                .copied()
        });
        let config = Self {
            input_channels,
            classes: classes.unwrap_or(2),
            features_per_stage: features,
            convolutions: (0..).take_while(|&i| convolution(0, i).is_some()).count(),
            kernel_sizes: kernels,
            strides,
            deep_supervision: true,
            checkpointing: false,
            precision: Precision::Auto,
        };
        config.check().is_ok().then_some(config)
    }
}

/// Whether nnU-Net's checkpoints hold this name beside the weights' own: its modules register every
/// layer twice, and its decoder registers the encoder once more.
pub(super) fn is_second_name(name: &str) -> bool {
    name.starts_with("decoder.encoder.") || name.contains(".all_modules.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unet;
    use liseg_nn::SegmentationNet;
    use liseg_nn::tch::Device;
    use liseg_volume::{Seed, Spacing};

    #[test]
    fn a_plain_unet_is_known_by_its_weights() {
        let spacing = Spacing::new(3.0, 1.0, 1.0).unwrap();
        let config = UnetConfig {
            input_channels: 2,
            features_per_stage: vec![4, 6, 8],
            ..UnetConfig::for_grid(spacing, &[[1, 2, 2], [2, 2, 1]], 5)
        };
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = Unet::new(&config, Device::Cpu, &mut rng).unwrap();
        let mut tensors = TensorMap::new();
        net.parameters().save_into("", &mut tensors).unwrap();
        assert_eq!(UnetConfig::of_weights(&tensors), Some(config));
        tensors.remove("decoder.transpconvs.0.weight");
        assert_eq!(UnetConfig::of_weights(&tensors), None);
        assert_eq!(UnetConfig::of_weights(&TensorMap::new()), None);
    }
}
