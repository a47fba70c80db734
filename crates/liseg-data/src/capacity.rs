//! How much memory a network's feature maps take, as far as a plan needs to know.

use serde::{Deserialize, Serialize};

/// The network that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PlanNetwork {
    /// nnU-Net's plain U-Net: 32 channels, doubled up to 320, two convolutions a stage.
    UNet,
    /// STU-Net-S: 16 channels, doubled up to 256, one residual block a stage.
    StuNetS,
    /// STU-Net-B: 32 channels, doubled up to 512, one residual block a stage.
    StuNetB,
    /// STU-Net-L: 64 channels, doubled up to 1024, two residual blocks a stage.
    StuNetL,
    /// STU-Net-H: 96 channels, doubled up to 1536, three residual blocks a stage.
    StuNetH,
}

impl std::str::FromStr for PlanNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unet" => Ok(Self::UNet),
            "S" => Ok(Self::StuNetS),
            "B" => Ok(Self::StuNetB),
            "L" => Ok(Self::StuNetL),
            "H" => Ok(Self::StuNetH),
            _ => Err("expected S, B, L, H (STU-Net) or unet (nnU-Net's)".to_owned()),
        }
    }
}

/// nnU-Net's budget: this many numbers in the feature maps of a batch of two suit a device of 8 GB.
const NUMBERS_AT_8_GB: f64 = 560e6;
/// The batch that budget is for.
const REFERENCE_BATCH: f64 = 2.0;

impl PlanNetwork {
    /// Numbers in the feature maps that training keeps of one patch.
    ///
    /// `strides` are those of the poolings; `outputs` the labels with background. nnU-Net's count for
    /// its U-Net: two maps a stage on the way down, three on the way up, and the output. STU-Net keeps
    /// a map for every convolution of its residual blocks, one more for the first block's shortcut and
    /// on the way up one for the enlarged map, and has outputs on every scale.
    pub fn feature_numbers(self, patch: [usize; 3], strides: &[[usize; 3]], outputs: usize) -> f64 {
        let (first, most, blocks) = match self {
            Self::UNet => (32, 320, 0),
            Self::StuNetS => (16, 256, 1),
            Self::StuNetB => (32, 512, 1),
            Self::StuNetL => (64, 1024, 2),
            Self::StuNetH => (96, 1536, 3),
        };
        let channels = |stage: usize| (first << stage).min(most);
        if self == Self::UNet {
            let mut all = vec![vec![1; 3]];
            all.extend(strides.iter().map(|s| s.to_vec()));
            let channels: Vec<usize> = (0..all.len()).map(channels).collect();
            return plain_unet_numbers(&patch, &all, &channels, 2, outputs) as f64;
        }
        let mut size = patch;
        let mut sum = 0.0;
        for stage in 0..=strides.len() {
            if let Some(stride) = stage.checked_sub(1).and_then(|s| strides.get(s)) {
                size = std::array::from_fn(|a| size[a] / stride[a]);
            }
            let voxels = size.iter().product::<usize>() as f64;
            let down = 2 * blocks + 1;
            // The coarsest stage has no way up.
            let up = if stage < strides.len() {
                2 * blocks + 2
            } else {
                0
            };
            sum += voxels * (channels(stage) * (down + up)) as f64;
            if up > 0 {
                sum += voxels * outputs as f64;
            }
        }
        sum
    }

    /// How many patches of `numbers` feature numbers fit into a device, not rounded.
    pub fn patches_that_fit(self, numbers: f64, gigabytes: f64) -> f64 {
        REFERENCE_BATCH * NUMBERS_AT_8_GB * (gigabytes / 8.0) / numbers
    }
}

/// nnU-Net's estimate for its plain U-Net in two or three dimensions: all strides, that of the first
/// stage included, and channels by stage.
pub(crate) fn plain_unet_numbers(
    patch: &[usize],
    strides: &[Vec<usize>],
    channels: &[usize],
    convolutions: usize,
    outputs: usize,
) -> usize {
    let mut size = patch.to_vec();
    let mut voxels = Vec::with_capacity(strides.len());
    for stride in strides {
        for (edge, step) in size.iter_mut().zip(stride) {
            *edge /= step;
        }
        voxels.push(size.iter().product::<usize>());
    }
    let down: usize = voxels
        .iter()
        .zip(channels)
        .map(|(v, c)| convolutions * v * c)
        .sum();
    let stages = voxels.len().saturating_sub(1);
    let up: usize = voxels[..stages]
        .iter()
        .zip(channels)
        .map(|(v, c)| (convolutions + 1) * v * c)
        .sum();
    down + up + outputs * voxels.first().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pooling, testing};
    use serde_json::from_value;

    #[test]
    fn golden_feature_map_count() {
        let golden = testing::golden("nnunet/planner.json");
        let rows = testing::table(&golden, "feature_map_count");
        assert_eq!(rows.len(), 3);
        for row in rows {
            let list = |name: &str| from_value::<Vec<usize>>(row[name].clone()).unwrap();
            let strides: Vec<Vec<usize>> = from_value(row["strides"].clone()).unwrap();
            let outputs = row["n_outputs"].as_u64().unwrap() as usize;
            let convolutions = row["n_conv_per_stage"].as_u64().unwrap() as usize;
            let patch = list("patch_size");
            let channels = list("features_per_stage");
            let found = plain_unet_numbers(&patch, &strides, &channels, convolutions, outputs);
            assert_eq!(found as u64, row["feature_map_elements"].as_u64().unwrap());
            let poolings: Vec<[usize; 3]> = from_value(row["strides"].clone()).unwrap();
            let patch: [usize; 3] = patch.try_into().unwrap();
            let same = PlanNetwork::UNet.feature_numbers(patch, &poolings[1..], outputs);
            assert!((same - found as f64).abs() < 0.5);
        }
    }

    #[test]
    fn larger_networks_need_more() {
        let strides = pooling([1.0; 3], [128.0; 3]);
        let numbers = |network: PlanNetwork| network.feature_numbers([128; 3], &strides, 2);
        use PlanNetwork::{StuNetB, StuNetH, StuNetL, StuNetS};
        let of_b = numbers(StuNetB);
        // Twice the channels everywhere, but for the outputs.
        assert!((of_b / numbers(StuNetS) - 2.0).abs() < 0.05);
        assert!(numbers(StuNetH) > numbers(StuNetL) && numbers(StuNetL) > of_b);
        // One stage: 16 channels, three maps, nothing on the way up.
        assert!((StuNetS.feature_numbers([8; 3], &[], 2) - 512.0 * 48.0).abs() < 0.5);
    }
}
