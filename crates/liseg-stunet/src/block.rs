//! The residual block, and stages of them.

use liseg_nn::layers::{Conv3d, InstanceNorm};
use liseg_nn::tch::Tensor;
use liseg_nn::{Parameters, Result};
use rand::Rng;

/// conv 3×3×3 (with the stride) – norm – rectifier – conv 3×3×3 – norm, plus the input, through a
/// strided 1×1×1 convolution where a stage changes width, then a rectifier.
#[derive(Debug)]
struct ResidualBlock {
    conv1: Conv3d,
    norm1: InstanceNorm,
    conv2: Conv3d,
    norm2: InstanceNorm,
    shortcut: Option<Conv3d>,
}

impl ResidualBlock {
    /// The first block of a stage: changes width and grid.
    fn entering(
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
    fn continuing(
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

    fn shallow_clone(&self) -> Self {
        Self {
            conv1: self.conv1.shallow_clone(),
            norm1: self.norm1.shallow_clone(),
            conv2: self.conv2.shallow_clone(),
            norm2: self.norm2.shallow_clone(),
            shortcut: self.shortcut.as_ref().map(Conv3d::shallow_clone),
        }
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [
            self.conv1.tensors(),
            self.norm1.tensors(),
            self.conv2.tensors(),
            self.norm2.tensors(),
        ]
        .into_iter()
        .chain(self.shortcut.as_ref().map(Conv3d::tensors))
        .flatten()
    }

    /// Drops every map as soon as nothing here needs it: without a graph to keep them, memory is that of
    /// two maps beside the input, and of three once the input is gone.
    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(&x)?;
        let y = self.norm1.rectified(y, None)?;
        let across = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x)?,
            None => x.shallow_clone(),
        };
        drop(x);
        let z = self.conv2.forward(&y)?;
        drop(y);
        self.norm2.rectified(z, Some(&across))
    }
}

/// The residual blocks of one stage.
#[derive(Debug)]
pub(crate) struct Stage(Vec<ResidualBlock>);

impl Stage {
    /// A first block that changes width and grid, then blocks that keep them, named `{path}.{i}`.
    pub(crate) fn new(
        parameters: &mut Parameters,
        path: &str,
        change: (i64, i64),
        stride: [usize; 3],
        depth: usize,
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let first = ResidualBlock::entering(parameters, &format!("{path}.0"), change, stride, rng)?;
        let mut blocks = vec![first];
        for i in 1..depth {
            let path = format!("{path}.{i}");
            blocks.push(ResidualBlock::continuing(parameters, &path, change.1, rng)?);
        }
        Ok(Self(blocks))
    }

    pub(crate) fn shallow_clone(&self) -> Self {
        Self(self.0.iter().map(ResidualBlock::shallow_clone).collect())
    }

    /// One of the stage's weights that is being trained.
    pub(crate) fn trained(&self) -> Option<&Tensor> {
        self.0
            .iter()
            .flat_map(ResidualBlock::tensors)
            .find(|weight| weight.requires_grad())
    }

    pub(crate) fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for block in &self.0 {
            x = block.forward(x)?;
        }
        Ok(x)
    }
}
