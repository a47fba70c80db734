//! The shape of a plain U-Net, and nnU-Net's rules for it.

use crate::cost::{MOST_BLOCKS, check_channels};
use liseg_nn::{Error, Precision, Result};
use liseg_volume::Spacing;
use serde::{Deserialize, Serialize};

/// Most channels of any stage of nnU-Net's three-dimensional networks.
const MOST_FEATURES: i64 = 320;

/// Fewest and most stages that make sense: one down-sampling, and 128 voxels brought down to one.
const STAGES: std::ops::RangeInclusive<usize> = 2..=8;

/// The shape of a plain U-Net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Image channels.
    pub input_channels: i64,
    /// Output classes, background included.
    pub classes: i64,
    /// Channels of each stage, finest first.
    pub features_per_stage: Vec<i64>,
    /// Convolutions of each stage, in the encoder and, but for the coarsest, in the decoder.
    pub convolutions: usize,
    /// Kernel of each stage along (z, y, x), each 1 or 3.
    pub kernel_sizes: Vec<[i64; 3]>,
    /// Stride with which each stage but the first begins, along (z, y, x).
    pub strides: Vec<[usize; 3]>,
    /// Whether training sees logits at all decoder scales, or at the finest alone.
    pub deep_supervision: bool,
    /// Whether training computes the maps inside a stage again in the backward pass instead of
    /// keeping them.
    pub checkpointing: bool,
    /// Number format of activations.
    pub precision: Precision,
}

impl UnetConfig {
    /// nnU-Net's network for a grid: 32 channels, doubled at every stage up to 320, two convolutions
    /// a stage.
    ///
    /// Kernels are 1 along an axis until its spacing is less than twice the finest one, 3 from then on,
    /// and 3 in the coarsest stage. Strides of [1, 1, 1] at the end, with which plans are filled up to
    /// five, make no stage.
    ///
    /// # Source
    /// Isensee et al. 2021, Nature Methods 18, and nnU-Net v2's planner.
    pub fn for_grid(spacing: Spacing, strides: &[[usize; 3]], classes: i64) -> Self {
        let stages = strides
            .iter()
            .rposition(|&s| s != [1; 3])
            .map_or(0, |i| i + 1);
        let strides = &strides[..stages];
        let mut spacing = spacing.zyx();
        let mut kernel = [1; 3];
        let mut kernel_sizes = Vec::with_capacity(stages + 1);
        for stride in strides {
            let finest = spacing.into_iter().fold(f64::INFINITY, f64::min);
            for axis in 0..3 {
                if spacing[axis] / finest < 2.0 {
                    kernel[axis] = 3;
                }
                spacing[axis] *= stride[axis] as f64;
            }
            kernel_sizes.push(kernel);
        }
        kernel_sizes.push([3; 3]);
        Self {
            input_channels: 1,
            classes,
            features_per_stage: (0..=stages)
                .map(|stage| (32 << stage.min(8)).min(MOST_FEATURES))
                .collect(),
            convolutions: 2,
            kernel_sizes,
            strides: strides.to_vec(),
            deep_supervision: true,
            checkpointing: false,
            precision: Precision::Auto,
        }
    }

    /// Number of stages of the encoder.
    pub fn stages(&self) -> usize {
        self.features_per_stage.len()
    }

    /// By how much the network divides each axis, (z, y, x).
    pub fn stride_product(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.strides.iter().map(|s| s[a]).product())
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |field, reason: String| Err(Error::Setting { field, reason });
        check_channels("network.input_channels", &[self.input_channels])?;
        if self.classes < 2 {
            let reason = format!(
                "{} leave nothing to tell apart; expected 2 or more",
                self.classes
            );
            return refuse("network.classes", reason);
        }
        check_channels("network.classes", &[self.classes])?;
        check_channels("network.features_per_stage", &self.features_per_stage)?;
        let stages = self.stages();
        if !STAGES.contains(&stages) {
            let reason = format!(
                "{:?} makes no U-Net; expected channels for 2 to 8 stages",
                self.features_per_stage
            );
            return refuse("network.features_per_stage", reason);
        }
        if !(1..=MOST_BLOCKS).contains(&self.convolutions) {
            let reason = format!("{} must lie in 1..={MOST_BLOCKS}", self.convolutions);
            return refuse("network.convolutions", reason);
        }
        let kernels = self.kernel_sizes.iter().flatten();
        if self.kernel_sizes.len() != stages || kernels.into_iter().any(|k| ![1, 3].contains(k)) {
            let reason = format!(
                "{:?} must be 1 or 3 along each axis, once for each of {stages} stages",
                self.kernel_sizes
            );
            return refuse("network.kernel_sizes", reason);
        }
        let out_of_range = self.strides.iter().flatten().any(|&s| s == 0 || s > 8);
        if self.strides.len() + 1 != stages || out_of_range {
            let reason = format!(
                "{:?} must lie in 1..=8, once for each of {stages} stages but the first",
                self.strides
            );
            return refuse("network.strides", reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thick_slices_are_first_convolved_in_plane() {
        let spacing = Spacing::new(7.0, 1.2, 1.2).unwrap();
        let strides = [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1]];
        let config = UnetConfig::for_grid(spacing, &strides, 2);
        assert_eq!(config.features_per_stage, [32, 64, 128, 256, 320]);
        let kernels = [[1, 3, 3], [1, 3, 3], [3; 3], [3; 3], [3; 3]];
        assert_eq!(config.kernel_sizes, kernels);
        assert_eq!(config.strides, strides[..4]);
        assert_eq!(config.stride_product(), [4, 16, 16]);
        config.check().unwrap();
    }

    #[test]
    fn shapes_that_make_no_network_name_their_field() {
        let spacing = Spacing::new(1.0, 1.0, 1.0).unwrap();
        let good = UnetConfig::for_grid(spacing, &[[2; 3]; 2], 2);
        good.check().unwrap();
        let none = UnetConfig::for_grid(spacing, &[[1; 3]; 5], 2);
        for (bad, field) in [
            (none, "features_per_stage"),
            (
                UnetConfig {
                    classes: 1,
                    ..good.clone()
                },
                "classes",
            ),
            (
                UnetConfig {
                    convolutions: 0,
                    ..good.clone()
                },
                "convolutions",
            ),
            (
                UnetConfig {
                    strides: vec![[2; 3]],
                    ..good.clone()
                },
                "strides",
            ),
            (
                UnetConfig {
                    kernel_sizes: vec![[2; 3]; 3],
                    ..good.clone()
                },
                "kernel_sizes",
            ),
            (
                UnetConfig {
                    input_channels: 0,
                    ..good
                },
                "input_channels",
            ),
        ] {
            let message = bad.check().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
