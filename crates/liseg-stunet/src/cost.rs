//! Adding up what layers cost.

use crate::StageSummary;
use liseg_nn::{Error, Result};

/// The grid of every stage, finest first, for a patch and the strides between stages.
pub(crate) fn grids(patch: [usize; 3], strides: &[[usize; 3]]) -> Vec<[usize; 3]> {
    let mut shapes = vec![patch];
    for stride in strides {
        let above = shapes[shapes.len() - 1];
        shapes.push(std::array::from_fn(|a| above[a] / stride[a]));
    }
    shapes
}

/// Refuses a patch that the strides do not divide.
pub(crate) fn check_patch(patch: [usize; 3], product: [usize; 3]) -> Result<()> {
    if (0..3).all(|a| patch[a] > 0 && patch[a].is_multiple_of(product[a])) {
        return Ok(());
    }
    Err(Error::Shape {
        what: "the patch".to_owned(),
        expected: format!("a multiple of {product:?} along (z, y, x)"),
        found: patch.map(|n| n as i64).to_vec(),
    })
}

/// Channels of a layer beyond which no network is built; STU-Net-H has 1536.
const MOST_CHANNELS: i64 = 1 << 14;

/// Blocks of a stage beyond which no network is built.
pub(crate) const MOST_BLOCKS: usize = 256;

/// Refuses stages without channels, and with more than any machine holds.
pub(crate) fn check_channels(field: &'static str, channels: &[i64]) -> Result<()> {
    if channels.iter().all(|n| (1..=MOST_CHANNELS).contains(n)) {
        return Ok(());
    }
    let reason = format!("{channels:?} must each lie in 1..={MOST_CHANNELS}");
    Err(Error::Setting { field, reason })
}

/// Voxels of a grid. Sums and products here end at the largest number: what a config or a file says may be absurd.
pub(crate) fn voxels(shape: [usize; 3]) -> u64 {
    shape
        .into_iter()
        .fold(1, |all, n| all.saturating_mul(n as u64))
}

/// Adds up layers that work on one grid.
pub(crate) struct Cost {
    shape: [usize; 3],
    parameters: u64,
    operations: u64,
}

impl Cost {
    pub(crate) fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            parameters: 0,
            operations: 0,
        }
    }

    /// A convolution with bias and a kernel of `kernel` taps.
    pub(crate) fn convolution(&mut self, inputs: i64, outputs: i64, kernel: u64) {
        let weights = (inputs as u64)
            .saturating_mul(outputs as u64)
            .saturating_mul(kernel);
        self.add(weights.saturating_add(outputs as u64), weights);
    }

    /// A transposed convolution with bias that enlarges by `stride` onto this grid: one product for
    /// every voxel, as blocks do not overlap.
    pub(crate) fn transposed_convolution(&mut self, inputs: i64, outputs: i64, stride: [usize; 3]) {
        let channels = (inputs as u64).saturating_mul(outputs as u64);
        let weights = channels.saturating_mul(voxels(stride));
        self.add(weights.saturating_add(outputs as u64), channels);
    }

    /// Scale and shift of a normalisation.
    pub(crate) fn norm(&mut self, channels: i64) {
        self.add((channels as u64).saturating_mul(2), 0);
    }

    /// Parameters, and operations for every voxel.
    fn add(&mut self, parameters: u64, operations: u64) {
        self.parameters = self.parameters.saturating_add(parameters);
        let operations = operations.saturating_mul(voxels(self.shape));
        self.operations = self.operations.saturating_add(operations);
    }

    /// Residual blocks: two convolutions and two norms each, the first with a shortcut.
    pub(crate) fn blocks(&mut self, inputs: i64, width: i64, depth: usize) {
        for block in 0..depth {
            self.convolution(if block == 0 { inputs } else { width }, width, 27);
            self.convolution(width, width, 27);
            self.norm(width);
            self.norm(width);
            if block == 0 {
                self.convolution(inputs, width, 1);
            }
        }
    }

    pub(crate) fn named(self, name: String, channels: i64) -> StageSummary {
        StageSummary {
            name,
            channels,
            shape: self.shape,
            parameters: self.parameters,
            operations: self.operations,
        }
    }
}
