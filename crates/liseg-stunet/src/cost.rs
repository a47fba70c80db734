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
        let weights = inputs as u64 * outputs as u64 * kernel;
        self.parameters += weights + outputs as u64;
        self.operations += weights * self.shape.iter().product::<usize>() as u64;
    }

    /// A transposed convolution with bias that enlarges by `stride` onto this grid: one product for
    /// every voxel, as blocks do not overlap.
    pub(crate) fn transposed_convolution(&mut self, inputs: i64, outputs: i64, stride: [usize; 3]) {
        let channels = inputs as u64 * outputs as u64;
        self.parameters += channels * stride.iter().product::<usize>() as u64 + outputs as u64;
        self.operations += channels * self.shape.iter().product::<usize>() as u64;
    }

    /// Scale and shift of a normalisation.
    pub(crate) fn norm(&mut self, channels: i64) {
        self.parameters += 2 * channels as u64;
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
