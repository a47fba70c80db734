//! The four published sizes, and anything in between.

use crate::cost::{MOST_BLOCKS, check_channels, grids, voxels};
use liseg_nn::{Error, Precision, Result};
use serde::{Deserialize, Serialize};

/// The published sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Size {
    /// STU-Net-S: widths 16–256, one block per stage, 14.6 M parameters.
    #[default]
    S,
    /// STU-Net-B: widths 32–512, one block per stage, 58.3 M parameters.
    B,
    /// STU-Net-L: widths 64–1024, two blocks per stage, 440 M parameters.
    L,
    /// STU-Net-H: widths 96–1536, three blocks per stage, 1.46 G parameters.
    H,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::S => "STU-Net-S",
            Self::B => "STU-Net-B",
            Self::L => "STU-Net-L",
            Self::H => "STU-Net-H",
        })
    }
}

/// The shape of an STU-Net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StuNetConfig {
    /// Image channels; the published networks take one.
    pub input_channels: i64,
    /// Output classes, background included.
    pub classes: i64,
    /// Channels of each stage.
    pub widths: [i64; 6],
    /// Residual blocks of each stage.
    pub depths: [usize; 6],
    /// Stride of stages 1 to 5 along (z, y, x); the field's `pool_op_kernel_sizes`.
    pub strides: [[usize; 3]; 5],
    /// Whether [`SegmentationNet::forward_scales`] gives logits at all five decoder scales, as in the
    /// published training, or at the finest alone. The heads exist either way.
    ///
    /// [`SegmentationNet::forward_scales`]: liseg_nn::SegmentationNet::forward_scales
    #[serde(default = "yes")]
    pub deep_supervision: bool,
    /// Whether the logits of the coarser scales are enlarged to the input's grid by linear
    /// interpolation; the published training leaves them on their own grids.
    #[serde(default)]
    pub upscale_logits: bool,
    /// Whether training computes the maps inside a stage again in the backward pass instead of
    /// keeping them: less memory for about a third more time. Prediction keeps none in either case.
    #[serde(default)]
    pub checkpointing: bool,
    /// Number format of activations.
    pub precision: Precision,
}

fn yes() -> bool {
    true
}

impl StuNetConfig {
    /// One of the published sizes, with one input channel and strides of 2 everywhere.
    pub fn new(size: Size, classes: i64) -> Self {
        let (width, depth) = match size {
            Size::S => (16, 1),
            Size::B => (32, 1),
            Size::L => (64, 2),
            Size::H => (96, 3),
        };
        Self {
            input_channels: 1,
            classes,
            widths: [1, 2, 4, 8, 16, 16].map(|m| m * width),
            depths: [depth; 6],
            strides: [[2; 3]; 5],
            deep_supervision: true,
            upscale_logits: false,
            checkpointing: false,
            precision: Precision::Auto,
        }
    }

    /// STU-Net-S.
    pub fn small(classes: i64) -> Self {
        Self::new(Size::S, classes)
    }

    /// By how much the network divides each axis, (z, y, x).
    pub fn stride_product(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.strides.iter().map(|s| s[a]).product())
    }

    /// A rough upper bound of the memory, in bytes, that one training step on a patch of `patch`
    /// voxels takes for every sample of a batch: activations kept for the backward pass, in f32.
    ///
    /// Counts what autograd keeps per block, the input and output of each convolution and of each
    /// normalisation. With checkpointing only the maps between stages and those of the largest stage
    /// count. bf16 takes half.
    pub fn activation_bytes(&self, patch: [usize; 3]) -> u64 {
        let (mut kept, mut between, mut largest) = (0u64, 0u64, 0);
        for (stage, &shape) in grids(patch, &self.strides).iter().enumerate() {
            let map = voxels(shape).saturating_mul(self.widths[stage] as u64);
            let decoder = stage < 5;
            // Five maps a block: two convolutions, two norms, the shortcut; the decoder adds the
            // up-sampled map and the concatenation of twice the width.
            let inside = map
                .saturating_mul(5)
                .saturating_mul(self.depths[stage] as u64);
            let both = inside
                .saturating_mul(2)
                .saturating_add(map.saturating_mul(3));
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

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |field, reason: String| Err(Error::Setting { field, reason });
        check_channels("network.input_channels", &[self.input_channels])?;
        if self.classes < 2 {
            return refuse(
                "network.classes",
                format!(
                    "{} classes leave nothing to tell apart; expected 2 or more",
                    self.classes
                ),
            );
        }
        check_channels("network.classes", &[self.classes])?;
        check_channels("network.widths", &self.widths)?;
        if self.depths.iter().any(|&d| !(1..=MOST_BLOCKS).contains(&d)) {
            let reason = format!("{:?} must each lie in 1..={MOST_BLOCKS}", self.depths);
            return refuse("network.depths", reason);
        }
        if self.strides.iter().flatten().any(|&s| s == 0 || s > 8) {
            return refuse(
                "network.strides",
                format!("{:?} must each lie in 1..=8", self.strides),
            );
        }
        Ok(())
    }
}
