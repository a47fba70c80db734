//! One type for every network of this crate.

use crate::{StuNet, StuNetConfig, Summary, Unet, UnetConfig};
use liseg_nn::tch::{Device, Kind};
use liseg_nn::{Precision, Result, SegmentationNet, TensorMap};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The shape of a network: which architecture, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Architecture {
    /// STU-Net.
    StuNet(StuNetConfig),
    /// nnU-Net's plain U-Net.
    Unet(UnetConfig),
}

impl Architecture {
    /// The architecture that these weights belong to, known from names and shapes alone.
    pub fn of_weights(tensors: &TensorMap) -> Option<Self> {
        StuNetConfig::of_weights(tensors)
            .map(Self::StuNet)
            .or_else(|| UnetConfig::of_weights(tensors).map(Self::Unet))
    }

    /// A network with fresh weights drawn from `rng` alone.
    ///
    /// # Errors
    /// For a shape that makes no network; when libtorch fails.
    pub fn build(&self, device: Device, rng: &mut dyn Rng) -> Result<Box<dyn SegmentationNet>> {
        Ok(match self {
            Self::StuNet(config) => Box::new(StuNet::new(config, device, rng)?),
            Self::Unet(config) => Box::new(Unet::new(config, device, rng)?),
        })
    }

    /// What tables call it: `STU-Net-S` for a published size, else its family and widths.
    pub fn name(&self) -> String {
        match self {
            Self::StuNet(config) => match config.published_size() {
                Some(size) => size.to_string(),
                None => format!(
                    "STU-Net of widths {:?}, depths {:?}",
                    config.widths, config.depths
                ),
            },
            Self::Unet(config) => format!("U-Net of widths {:?}", config.features_per_stage),
        }
    }

    /// What the network costs on a patch of `patch` voxels (z, y, x).
    ///
    /// # Errors
    /// When the strides do not divide the patch, or the shape makes no network.
    pub fn summary(&self, patch: [usize; 3]) -> Result<Summary> {
        match self {
            Self::StuNet(config) => config.summary(patch),
            Self::Unet(config) => config.summary(patch),
        }
    }

    /// The activations of one training sample, in bytes, in f32.
    pub fn activation_bytes(&self, patch: [usize; 3]) -> u64 {
        match self {
            Self::StuNet(config) => config.activation_bytes(patch),
            Self::Unet(config) => config.activation_bytes(patch),
        }
    }

    /// The memory, in bytes, that a forward pass without gradients takes at its worst on `batch`
    /// patches of `patch` voxels (z, y, x), in activations of `kind`; weights are left out.
    pub fn inference_bytes(&self, patch: [usize; 3], batch: usize, kind: Kind) -> u64 {
        match self {
            Self::StuNet(config) => config.inference_bytes(patch, batch, kind),
            Self::Unet(config) => config.inference_bytes(patch, batch, kind),
        }
    }

    /// By how much the network divides each axis, (z, y, x).
    pub fn stride_product(&self) -> [usize; 3] {
        match self {
            Self::StuNet(config) => config.stride_product(),
            Self::Unet(config) => config.stride_product(),
        }
    }

    /// Output classes, background included.
    pub fn classes(&self) -> i64 {
        match self {
            Self::StuNet(config) => config.classes,
            Self::Unet(config) => config.classes,
        }
    }

    /// Image channels.
    pub fn input_channels(&self) -> i64 {
        match self {
            Self::StuNet(config) => config.input_channels,
            Self::Unet(config) => config.input_channels,
        }
    }

    /// Number format of activations.
    pub fn precision(&self) -> Precision {
        match self {
            Self::StuNet(config) => config.precision,
            Self::Unet(config) => config.precision,
        }
    }

    /// The same shape, computing in another number format.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        match self {
            Self::StuNet(config) => Self::StuNet(StuNetConfig {
                precision,
                ..config
            }),
            Self::Unet(config) => Self::Unet(UnetConfig {
                precision,
                ..config
            }),
        }
    }
}

impl From<StuNetConfig> for Architecture {
    fn from(config: StuNetConfig) -> Self {
        Self::StuNet(config)
    }
}

impl From<UnetConfig> for Architecture {
    fn from(config: UnetConfig) -> Self {
        Self::Unet(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_nn::tch::Tensor;
    use liseg_volume::{Seed, Spacing};

    #[test]
    fn shapes_survive_json_and_are_known_by_their_weights() {
        let spacing = Spacing::new(1.0, 1.0, 1.0).unwrap();
        let stunet = StuNetConfig {
            widths: [2, 2, 4, 4, 4, 4],
            ..StuNetConfig::small(2)
        };
        let unet = UnetConfig {
            features_per_stage: vec![2, 4],
            ..UnetConfig::for_grid(spacing, &[[2; 3]], 2)
        };
        for shape in [Architecture::from(stunet), Architecture::from(unet)] {
            let text = serde_json::to_string(&shape).unwrap();
            assert_eq!(serde_json::from_str::<Architecture>(&text).unwrap(), shape);
            let mut rng = Seed(1).stream("weights", 0, 0);
            let net = shape.build(Device::Cpu, &mut rng).unwrap();
            let mut tensors = TensorMap::new();
            net.parameters().save_into("", &mut tensors).unwrap();
            assert_eq!(Architecture::of_weights(&tensors), Some(shape.clone()));
            let count = shape.summary([32; 3]).unwrap().parameters;
            assert_eq!(count, net.parameters().count() as u64);
            let half = shape.clone().with_precision(Precision::Bf16);
            assert_eq!(half.precision(), Precision::Bf16);
        }
    }

    #[test]
    fn absurd_shapes_and_patches_are_counted_or_refused() {
        let spacing = Spacing::new(1.0, 1.0, 1.0).unwrap();
        let unet = UnetConfig::for_grid(spacing, &[[2; 3]; 4], 2);
        for shape in [
            Architecture::from(StuNetConfig::small(2)),
            unet.clone().into(),
        ] {
            // 2⁹⁶ voxels.
            let found = shape.summary([1 << 32; 3]).unwrap();
            assert_eq!(
                (found.operations, found.activation_bytes),
                (u64::MAX, u64::MAX)
            );
            assert_eq!(found.prediction_bytes, u64::MAX);
        }
        let wide = |width| StuNetConfig {
            widths: [width; 6],
            ..StuNetConfig::small(2)
        };
        wide(1536).summary([32; 3]).unwrap();
        let features_per_stage = vec![1 << 40; 5];
        for shape in [
            Architecture::from(wide(1 << 40)),
            StuNetConfig::small(1 << 40).into(),
            UnetConfig {
                features_per_stage,
                ..unet
            }
            .into(),
        ] {
            let message = shape.summary([32; 3]).unwrap_err().to_string();
            assert!(message.contains("1..=16384"), "{message}");
            assert!(
                shape
                    .build(Device::Cpu, &mut Seed(1).stream("weights", 0, 0))
                    .is_err()
            );
        }
        let net = Architecture::from(wide(2));
        let net = net
            .build(Device::Cpu, &mut Seed(1).stream("weights", 0, 0))
            .unwrap();
        let none = Tensor::zeros([0, 1, 32, 32, 32], (Kind::Float, Device::Cpu));
        let message = net.forward(&none).unwrap_err().to_string();
        assert!(message.contains("n above 0"), "{message}");
    }

    /// Logits at all scales and the gradients of all weights, in their order.
    fn trained(shape: &Architecture, frozen: &str) -> (Vec<Tensor>, Vec<Tensor>) {
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = shape.build(Device::Cpu, &mut rng).unwrap();
        for (name, weight) in net.parameters().iter() {
            let _ = weight.set_requires_grad(!name.starts_with(frozen));
        }
        let values: Vec<f32> = (0..32 * 32 * 32)
            .map(|i| ((i * 37) % 101) as f32 / 50.0)
            .collect();
        let images = Tensor::from_slice(&values).view([1, 1, 32, 32, 32]);
        let scales = net.forward_scales(&images).unwrap();
        let terms: Vec<_> = scales.iter().map(|s| (s * s).mean(Kind::Float)).collect();
        Tensor::stack(&terms, 0).sum(Kind::Float).backward();
        let gradients = net.parameters().iter().map(|(_, weight)| weight.grad());
        (scales, gradients.collect())
    }

    #[test]
    fn checkpointing_changes_no_logit_and_no_gradient() {
        let spacing = Spacing::new(1.0, 1.0, 1.0).unwrap();
        let stunet = |checkpointing| {
            Architecture::from(StuNetConfig {
                widths: [2, 2, 4, 4, 4, 4],
                depths: [1, 2, 1, 1, 1, 1],
                precision: Precision::F32,
                checkpointing,
                ..StuNetConfig::small(2)
            })
        };
        let unet = |checkpointing| {
            Architecture::from(UnetConfig {
                features_per_stage: vec![2, 4, 4],
                precision: Precision::F32,
                checkpointing,
                ..UnetConfig::for_grid(spacing, &[[2; 3]; 2], 2)
            })
        };
        for (kept, again, frozen) in [
            (stunet(false), stunet(true), "nothing"),
            // The first weight of a stage is frozen and its input wants no gradient.
            (stunet(false), stunet(true), "conv_blocks_context.0.0.conv1"),
            (unet(false), unet(true), "encoder.stages.0.0.convs.0"),
        ] {
            let ((a, da), (b, db)) = (trained(&kept, frozen), trained(&again, frozen));
            for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                assert!(a.equal(b), "logits {i}");
            }
            assert_eq!(da.len(), db.len());
            let largest = |t: &Tensor| t.abs().max().double_value(&[]);
            let defined = da.iter().filter(|t| t.defined());
            let scale = defined.map(largest).fold(0.0, f64::max);
            for (i, (a, b)) in da.iter().zip(&db).enumerate() {
                assert_eq!(a.defined(), b.defined(), "gradient {i}, {frozen} frozen");
                if a.defined() {
                    // Gradients of maps that are used twice may add up in another order; those of
                    // biases in front of a norm are nothing but such rounding.
                    let off = largest(&(a - b));
                    assert!(off <= 1e-4 * scale, "gradient {i}: {off} of {scale}");
                }
            }
        }
    }
}
