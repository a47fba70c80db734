//! What a network costs, computed from its shape alone: nothing is allocated.

use crate::StuNetConfig;
use crate::cost::{Cost, check_patch, grids};
use liseg_nn::Result;
use liseg_nn::tch::Kind;
use serde::Serialize;
use std::fmt;

/// One stage of the network on a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageSummary {
    /// Such as `encoder 3` or `decoder 0`; decoder 0 is the coarsest.
    pub name: String,
    /// Channels of its output.
    pub channels: i64,
    /// Voxels of its output, (z, y, x).
    pub shape: [usize; 3],
    /// Trainable numbers, the up-sampling before it and the head after it included.
    pub parameters: u64,
    /// Multiply–accumulate operations of its convolutions for one sample.
    pub operations: u64,
}

/// Parameters, operations and memory of a network on one patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The patch, (z, y, x) voxels.
    pub patch: [usize; 3],
    /// Stages in the order in which they run.
    pub stages: Vec<StageSummary>,
    /// Trainable numbers.
    pub parameters: u64,
    /// Multiply–accumulate operations of all convolutions for one sample, all five heads included.
    ///
    /// STU-Net's paper and LiSeg's Table 1 call these FLOPs: 0.13, 0.51, 3.81 and 12.60 T for S, B, L and
    /// H with 105 classes at 128³. Counting multiplications and additions apart gives twice as many.
    pub operations: u64,
    /// The weights, in bytes; training holds them four times (gradients and two moments of Adam).
    pub weight_bytes: u64,
    /// A rough upper bound of the activations of one training sample, in bytes, f32.
    pub activation_bytes: u64,
    /// The maps that are alive at once in predicting one sample, in bytes, f32.
    pub prediction_bytes: u64,
}

impl StuNetConfig {
    /// What the network costs on a patch of `patch` voxels (z, y, x).
    ///
    /// # Errors
    /// [`Error::Shape`] when the strides do not divide the patch, [`Error::Setting`] for a config that
    /// makes no network.
    ///
    /// [`Error::Shape`]: liseg_nn::Error::Shape
    /// [`Error::Setting`]: liseg_nn::Error::Setting
    pub fn summary(&self, patch: [usize; 3]) -> Result<Summary> {
        self.check()?;
        check_patch(patch, self.stride_product())?;
        let mut stages = Vec::with_capacity(11);
        let shapes = grids(patch, &self.strides);
        let mut inputs = self.input_channels;
        for (stage, &shape) in shapes.iter().enumerate() {
            let mut cost = Cost::new(shape);
            cost.blocks(inputs, self.widths[stage], self.depths[stage]);
            stages.push(cost.named(format!("encoder {stage}"), self.widths[stage]));
            inputs = self.widths[stage];
        }
        for scale in 0..5 {
            let (from, to) = (self.widths[5 - scale], self.widths[4 - scale]);
            let mut cost = Cost::new(shapes[4 - scale]);
            cost.convolution(from, to, 1);
            cost.blocks(2 * to, to, self.depths[4 - scale]);
            cost.convolution(to, self.classes, 1);
            stages.push(cost.named(format!("decoder {scale}"), to));
        }
        Ok(Summary::of_stages(
            patch,
            stages,
            self.activation_bytes(patch),
            self.inference_bytes(patch, 1, Kind::Float),
        ))
    }
}

impl Summary {
    pub(crate) fn of_stages(
        patch: [usize; 3],
        stages: Vec<StageSummary>,
        activation_bytes: u64,
        prediction_bytes: u64,
    ) -> Self {
        let sum = |of: fn(&StageSummary) -> u64| stages.iter().map(of).fold(0, u64::saturating_add);
        let parameters = sum(|s| s.parameters);
        let operations = sum(|s| s.operations);
        Self {
            patch,
            parameters,
            operations,
            weight_bytes: parameters.saturating_mul(4),
            activation_bytes,
            prediction_bytes,
            stages,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |[z, y, x]: [usize; 3]| format!("{z} × {y} × {x}");
        let giga = |n: u64| n as f64 / 1e9;
        writeln!(
            f,
            "{:<10} {:>8}  {:<16} {:>13} {:>10}",
            "stage", "channels", "voxels (z, y, x)", "parameters", "GMAC"
        )?;
        for s in &self.stages {
            writeln!(
                f,
                "{:<10} {:>8}  {:<16} {:>13} {:>10.2}",
                s.name,
                s.channels,
                shape(s.shape),
                s.parameters,
                giga(s.operations)
            )?;
        }
        write!(
            f,
            "{:<10} {:>8}  {:<16} {:>13} {:>10.2}\nmemory     weights {:.2} GB; beside them a sample \
             takes {:.2} GB in training, {:.2} GB in prediction (f32; half in bf16)",
            "in all",
            "",
            shape(self.patch),
            self.parameters,
            giga(self.operations),
            giga(self.weight_bytes),
            giga(self.activation_bytes),
            giga(self.prediction_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Size, StuNet};
    use liseg_nn::SegmentationNet;
    use liseg_nn::tch::Device;
    use liseg_volume::Seed;

    /// Parameters with 105 classes as the authors state them, and the operations of Table 1.
    #[test]
    fn published_sizes_cost_what_their_papers_say() {
        let published = [
            (Size::S, 14_596_941, 14_545_338, 0.13e12),
            (Size::B, 58_262_669, 58_159_978, 0.51e12),
            (Size::L, 440_302_605, 440_097_738, 3.81e12),
            (Size::H, 1_457_326_221, 1_457_019_178, 12.6e12),
        ];
        for (size, parameters, with_two_classes, operations) in published {
            let small = StuNetConfig::new(size, 2).summary([32; 3]).unwrap();
            assert_eq!(small.parameters, with_two_classes, "{size}");
            let summary = StuNetConfig::new(size, 105).summary([128; 3]).unwrap();
            assert_eq!(summary.parameters, parameters, "{size}");
            let off = summary.operations as f64 / operations - 1.0;
            assert!(off.abs() < 0.02, "{size}: off by {off}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_network_itself() {
        let config = StuNetConfig {
            input_channels: 2,
            widths: [4, 8, 8, 12, 8, 8],
            depths: [2, 1, 1, 3, 1, 1],
            strides: [[1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 1, 1]],
            ..StuNetConfig::small(3)
        };
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = StuNet::new(&config, Device::Cpu, &mut rng).unwrap();
        let summary = config.summary([8, 32, 32]).unwrap();
        assert_eq!(summary.parameters, net.parameters().count() as u64);
        assert_eq!(summary.stages[5].shape, [2, 2, 2]);
        assert_eq!(summary.stages[10].shape, [8, 32, 32]);
        assert!(config.summary([8, 30, 32]).is_err());
        assert_eq!(summary.to_string().lines().count(), 14);
    }
}
