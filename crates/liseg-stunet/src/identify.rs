//! Knowing a network by its weights.

use crate::{Size, StuNetConfig};
use liseg_nn::TensorMap;

impl StuNetConfig {
    /// The shape of the STU-Net that these weights belong to, known from names and shapes alone;
    /// nothing when they belong to another network.
    ///
    /// Strides leave no trace in the weights: they are set to 2 everywhere, as published. A network
    /// without the outermost head counts the classes of the first head there is; without heads, 2.
    pub fn of_weights(tensors: &TensorMap) -> Option<Self> {
        let size = |name: &str| tensors.get(name).map(|t| t.size());
        let mut widths = [0; 6];
        let mut depths = [0; 6];
        for stage in 0..6 {
            let block = |i| format!("conv_blocks_context.{stage}.{i}.conv1.weight");
            let &[outputs, _, 3, 3, 3] = size(&block(0))?.as_slice() else {
                return None;
            };
            widths[stage] = outputs;
            depths[stage] = (0..)
                .take_while(|&i| tensors.contains_key(&block(i)))
                .count();
        }
        let stem = size("conv_blocks_context.0.0.conv1.weight")?;
        let heads = (0..5).rev().map(|i| format!("seg_outputs.{i}.weight"));
        let classes = heads
            .filter_map(|name| size(&name)?.first().copied())
            .next();
        Some(Self {
            input_channels: *stem.get(1)?,
            widths,
            depths,
            ..Self::small(classes.unwrap_or(2))
        })
    }

    /// The published size that has these widths and depths, if one has.
    pub fn published_size(&self) -> Option<Size> {
        [Size::S, Size::B, Size::L, Size::H]
            .into_iter()
            .find(|&size| {
                let published = Self::new(size, self.classes);
                published.widths == self.widths && published.depths == self.depths
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StuNet;
    use liseg_nn::SegmentationNet;
    use liseg_nn::tch::Device;
    use liseg_volume::Seed;

    #[test]
    fn a_network_is_known_by_its_weights() {
        let config = StuNetConfig {
            input_channels: 3,
            widths: [4, 8, 8, 12, 8, 8],
            depths: [2, 1, 1, 3, 1, 1],
            ..StuNetConfig::small(7)
        };
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = StuNet::new(&config, Device::Cpu, &mut rng).unwrap();
        let mut tensors = TensorMap::new();
        net.parameters().save_into("", &mut tensors).unwrap();
        assert_eq!(StuNetConfig::of_weights(&tensors), Some(config.clone()));
        assert_eq!(config.published_size(), None);
        assert_eq!(StuNetConfig::small(7).published_size(), Some(Size::S));

        tensors.remove("conv_blocks_context.5.0.conv1.weight");
        assert_eq!(StuNetConfig::of_weights(&tensors), None);
        assert_eq!(StuNetConfig::of_weights(&TensorMap::new()), None);
    }
}
