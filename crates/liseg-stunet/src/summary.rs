//! What a network costs, computed from its shape alone: nothing is allocated.

use crate::StuNetConfig;
use liseg_nn::{Error, Result};
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

/// Parameters, operations and memory of an STU-Net on one patch.
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
    /// STU-Net's paper and LiSeg's Table 1 call these FLOPs: 0.13, 0.51 and 3.81 T for S, B and L with
    /// 105 classes at 128³. Counting multiplications and additions apart gives twice as many.
    pub operations: u64,
    /// A rough upper bound of the activations of one training sample, in bytes, f32.
    pub activation_bytes: u64,
}

impl StuNetConfig {
    /// What the network costs on a patch of `patch` voxels (z, y, x).
    ///
    /// # Errors
    /// [`Error::Shape`] when the strides do not divide the patch, [`Error::Setting`] for a config that
    /// makes no network.
    pub fn summary(&self, patch: [usize; 3]) -> Result<Summary> {
        self.check()?;
        let product = self.stride_product();
        if (0..3).any(|a| patch[a] == 0 || !patch[a].is_multiple_of(product[a])) {
            return Err(Error::Shape {
                what: "the patch".to_owned(),
                expected: format!("a multiple of {product:?} along (z, y, x)"),
                found: patch.map(|n| n as i64).to_vec(),
            });
        }
        let mut stages = Vec::with_capacity(11);
        let mut shapes = vec![patch];
        let mut inputs = self.input_channels;
        for stage in 0..6 {
            if stage > 0 {
                let above = shapes[stage - 1];
                shapes.push(std::array::from_fn(|a| {
                    above[a] / self.strides[stage - 1][a]
                }));
            }
            let mut cost = Cost::new(shapes[stage]);
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
        Ok(Summary {
            patch,
            parameters: stages.iter().map(|s| s.parameters).sum(),
            operations: stages.iter().map(|s| s.operations).sum(),
            activation_bytes: self.activation_bytes(patch),
            stages,
        })
    }
}

/// Adds up layers that work on one grid.
struct Cost {
    shape: [usize; 3],
    parameters: u64,
    operations: u64,
}

impl Cost {
    fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            parameters: 0,
            operations: 0,
        }
    }

    /// A convolution with bias and a kernel of `kernel` taps.
    fn convolution(&mut self, inputs: i64, outputs: i64, kernel: u64) {
        let weights = inputs as u64 * outputs as u64 * kernel;
        self.parameters += weights + outputs as u64;
        self.operations += weights * self.shape.iter().product::<usize>() as u64;
    }

    /// Residual blocks: two convolutions and two norms each, the first with a shortcut.
    fn blocks(&mut self, inputs: i64, width: i64, depth: usize) {
        for block in 0..depth {
            self.convolution(if block == 0 { inputs } else { width }, width, 27);
            self.convolution(width, width, 27);
            self.parameters += 4 * width as u64;
            if block == 0 {
                self.convolution(inputs, width, 1);
            }
        }
    }

    fn named(self, name: String, channels: i64) -> StageSummary {
        StageSummary {
            name,
            channels,
            shape: self.shape,
            parameters: self.parameters,
            operations: self.operations,
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
            "{:<10} {:>8}  {:<16} {:>13} {:>10.2}\ntraining keeps up to {:.1} GB of activations a \
             sample in f32, half of it in bf16",
            "in all",
            "",
            shape(self.patch),
            self.parameters,
            giga(self.operations),
            giga(self.activation_bytes)
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
            (Size::S, 14_596_941, Some(0.13e12)),
            (Size::B, 58_262_669, Some(0.51e12)),
            (Size::L, 440_302_605, Some(3.81e12)),
            (Size::H, 1_457_326_221, None),
        ];
        for (size, parameters, operations) in published {
            let summary = StuNetConfig::new(size, 105).summary([128; 3]).unwrap();
            assert_eq!(summary.parameters, parameters, "{size}");
            if let Some(expected) = operations {
                let off = summary.operations as f64 / expected - 1.0;
                assert!(off.abs() < 0.02, "{size}: off by {off}");
            }
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
