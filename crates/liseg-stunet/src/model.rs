//! The network.

use crate::StuNetConfig;
use crate::block::ResidualBlock;
use liseg_nn::layers::{Conv3d, to_compute_layout, upsample_nearest};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Error, Parameters, Result, SegmentationNet};
use rand::Rng;

/// Scales of the decoder, each with a segmentation head.
const SCALES: usize = 5;

/// An STU-Net.
#[derive(Debug)]
pub struct StuNet {
    config: StuNetConfig,
    parameters: Parameters,
    encoder: Vec<Vec<ResidualBlock>>,
    upsample: Vec<Conv3d>,
    decoder: Vec<Vec<ResidualBlock>>,
    heads: Vec<Conv3d>,
}

impl StuNet {
    /// A network with fresh weights: He-normal convolutions, zero biases, identity norms, drawn
    /// from `rng` alone.
    ///
    /// # Errors
    /// [`Error::Setting`] for a config that makes no network; when libtorch fails.
    pub fn new(config: &StuNetConfig, device: Device, rng: &mut dyn Rng) -> Result<Self> {
        config.check()?;
        let mut parameters = Parameters::new(device);
        let p = &mut parameters;
        let (widths, depths) = (config.widths, config.depths);
        let mut encoder = Vec::new();
        let mut inputs = config.input_channels;
        for stage in 0..=SCALES {
            let stride = if stage == 0 {
                [1; 3]
            } else {
                config.strides[stage - 1]
            };
            let path = format!("conv_blocks_context.{stage}");
            encoder.push(stage_of(
                p,
                &path,
                (inputs, widths[stage]),
                stride,
                depths[stage],
                rng,
            )?);
            inputs = widths[stage];
        }
        let mut upsample = Vec::new();
        for scale in 0..SCALES {
            let change = (widths[SCALES - scale], widths[SCALES - 1 - scale]);
            let path = format!("upsample_layers.{scale}.conv");
            upsample.push(Conv3d::new(p, &path, change, 1, [1; 3], rng)?);
        }
        let mut decoder = Vec::new();
        for scale in 0..SCALES {
            let width = widths[SCALES - 1 - scale];
            let path = format!("conv_blocks_localization.{scale}");
            let depth = depths[SCALES - 1 - scale];
            decoder.push(stage_of(p, &path, (2 * width, width), [1; 3], depth, rng)?);
        }
        let mut heads = Vec::new();
        for scale in 0..SCALES {
            let change = (widths[SCALES - 1 - scale], config.classes);
            heads.push(Conv3d::new(
                p,
                &format!("seg_outputs.{scale}"),
                change,
                1,
                [1; 3],
                rng,
            )?);
        }
        Ok(Self {
            config: config.clone(),
            parameters,
            encoder,
            upsample,
            decoder,
            heads,
        })
    }

    /// The shape of the network.
    pub fn config(&self) -> &StuNetConfig {
        &self.config
    }

    /// Runs encoder and decoder and hands the map of every decoder scale, coarsest first, to
    /// `visit`.
    fn decode(
        &self,
        images: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        self.check_input(images)?;
        let kind = self.config.precision.kind(images.device());
        let mut x = to_compute_layout(images, kind)?;
        let mut skips = Vec::with_capacity(SCALES);
        for stage in &self.encoder {
            for block in stage {
                x = block.forward(&x)?;
            }
            skips.push(x.shallow_clone());
        }
        skips.pop();
        for scale in 0..SCALES {
            // The reference enlarges, then mixes channels. A 1×1×1 convolution sees single voxels,
            // so mixing first gives the same numbers from an eighth of the work.
            let mixed = self.upsample[scale].forward(&x)?;
            let enlarged = upsample_nearest(&mixed, self.config.strides[SCALES - 1 - scale])?;
            drop(mixed);
            let Some(skip) = skips.pop() else { break };
            x = Tensor::f_cat(&[enlarged, skip], 1)?;
            for block in &self.decoder[scale] {
                x = block.forward(&x)?;
            }
            visit(scale, &x)?;
        }
        Ok(())
    }

    fn check_input(&self, images: &Tensor) -> Result<()> {
        let product = self.config.stride_product();
        let channels = self.config.input_channels;
        let size = images.size();
        let fits = matches!(size[..], [_, c, z, y, x] if c == channels
            && [z, y, x].iter().zip(product).all(|(&n, p)| n > 0 && n % p as i64 == 0));
        if fits {
            return Ok(());
        }
        let [pz, py, px] = product;
        Err(Error::Shape {
            what: "the network's input".into(),
            expected: format!(
                "[n, {channels}, z, y, x] with z, y, x divisible by {pz}, {py}, {px}"
            ),
            found: size,
        })
    }
}

/// A first block that changes width and grid, then blocks that keep them.
fn stage_of(
    parameters: &mut Parameters,
    path: &str,
    change: (i64, i64),
    stride: [usize; 3],
    depth: usize,
    rng: &mut dyn Rng,
) -> Result<Vec<ResidualBlock>> {
    let first = ResidualBlock::entering(parameters, &format!("{path}.0"), change, stride, rng)?;
    let mut blocks = vec![first];
    for i in 1..depth {
        let path = format!("{path}.{i}");
        blocks.push(ResidualBlock::continuing(parameters, &path, change.1, rng)?);
    }
    Ok(blocks)
}

impl SegmentationNet for StuNet {
    fn forward_scales(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut scales = Vec::with_capacity(SCALES);
        self.decode(images, |scale, x| {
            scales.push(self.heads[scale].forward(x)?.f_to_kind(Kind::Float)?);
            Ok(())
        })?;
        scales.reverse();
        Ok(scales)
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut finest = None;
        self.decode(images, |scale, x| {
            if scale == SCALES - 1 {
                finest = Some(self.heads[scale].forward(x)?.f_to_kind(Kind::Float)?);
            }
            Ok(())
        })?;
        finest.ok_or_else(|| Error::Weights("the network has no finest scale".into()))
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn classes(&self) -> i64 {
        self.config.classes
    }

    fn stride_product(&self) -> [usize; 3] {
        self.config.stride_product()
    }

    fn head_prefixes(&self) -> Vec<String> {
        vec!["seg_outputs.".into()]
    }
}
