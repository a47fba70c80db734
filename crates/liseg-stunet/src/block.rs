//! The residual block.

use liseg_nn::layers::{Conv3d, InstanceNorm, leaky_relu};
use liseg_nn::tch::Tensor;
use liseg_nn::{Parameters, Result};
use rand::Rng;

/// conv 3×3×3 (with the stride) – norm – rectifier – conv 3×3×3 – norm, plus the input, through a
/// strided 1×1×1 convolution where a stage changes width, then a rectifier.
#[derive(Debug)]
pub(crate) struct ResidualBlock {
    conv1: Conv3d,
    norm1: InstanceNorm,
    conv2: Conv3d,
    norm2: InstanceNorm,
    shortcut: Option<Conv3d>,
}

impl ResidualBlock {
    /// The first block of a stage: changes width and grid.
    pub(crate) fn entering(
        parameters: &mut Parameters,
        path: &str,
        (inputs, outputs): (i64, i64),
        stride: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let mut block = Self::plain(parameters, path, (inputs, outputs), stride, rng)?;
        let path = format!("{path}.conv3");
        block.shortcut = Some(Conv3d::new(
            parameters,
            &path,
            (inputs, outputs),
            1,
            stride,
            rng,
        )?);
        Ok(block)
    }

    /// A further block of a stage: keeps width and grid.
    pub(crate) fn continuing(
        parameters: &mut Parameters,
        path: &str,
        width: i64,
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        Self::plain(parameters, path, (width, width), [1; 3], rng)
    }

    fn plain(
        parameters: &mut Parameters,
        path: &str,
        (inputs, outputs): (i64, i64),
        stride: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let at = |part: &str| format!("{path}.{part}");
        Ok(Self {
            conv1: Conv3d::new(parameters, &at("conv1"), (inputs, outputs), 3, stride, rng)?,
            norm1: InstanceNorm::new(parameters, &at("norm1"), outputs)?,
            conv2: Conv3d::new(parameters, &at("conv2"), (outputs, outputs), 3, [1; 3], rng)?,
            norm2: InstanceNorm::new(parameters, &at("norm2"), outputs)?,
            shortcut: None,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = leaky_relu(self.norm1.forward(&self.conv1.forward(x)?)?)?;
        let y = self.norm2.forward(&self.conv2.forward(&y)?)?;
        let y = match &self.shortcut {
            Some(shortcut) => y.f_add(&shortcut.forward(x)?)?,
            None => y.f_add(x)?,
        };
        leaky_relu(y)
    }
}
