//! The network.

use crate::StuNetConfig;
use crate::block::Stage;
use liseg_nn::layers::{Conv3d, join_enlarged, to_compute_layout, upsample_linear};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Error, Parameters, Result, SegmentationNet, checkpointed, records_gradients};
use rand::Rng;

/// Scales of the decoder, each with a segmentation head.
const SCALES: usize = 5;

/// An STU-Net.
#[derive(Debug)]
pub struct StuNet {
    config: StuNetConfig,
    parameters: Parameters,
    encoder: Vec<Stage>,
    decoder: Vec<DecoderStage>,
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
            let change = (inputs, widths[stage]);
            encoder.push(Stage::new(p, &path, change, stride, depths[stage], rng)?);
            inputs = widths[stage];
        }
        let mut upsample = Vec::new();
        for scale in 0..SCALES {
            let change = (widths[SCALES - scale], widths[SCALES - 1 - scale]);
            let path = format!("upsample_layers.{scale}.conv");
            upsample.push(Conv3d::new(p, &path, change, 1, [1; 3], rng)?);
        }
        let mut decoder = Vec::new();
        for (scale, upsample) in upsample.into_iter().enumerate() {
            let finer = SCALES - 1 - scale;
            let change = (2 * widths[finer], widths[finer]);
            let path = format!("conv_blocks_localization.{scale}");
            decoder.push(DecoderStage {
                upsample,
                factor: config.strides[finer],
                stage: Stage::new(p, &path, change, [1; 3], depths[finer], rng)?,
            });
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
            decoder,
            heads,
        })
    }

    /// The shape of the network.
    pub fn config(&self) -> &StuNetConfig {
        &self.config
    }

    /// Runs encoder and decoder and hands the map of every decoder scale, coarsest first, to
    /// `visit`. The features of every encoder stage pass through `perturb`.
    fn decode(
        &self,
        images: &Tensor,
        mut perturb: impl FnMut(usize, Tensor) -> Result<Tensor>,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        crate::input::check(
            images,
            self.config.input_channels,
            self.config.stride_product(),
        )?;
        let kind = self.config.precision.kind(images.device());
        let mut x = to_compute_layout(images, kind)?;
        let mut skips = Vec::with_capacity(SCALES);
        for (number, stage) in self.encoder.iter().enumerate() {
            x = perturb(number, self.encode(stage, x)?)?;
            skips.push(x.shallow_clone());
        }
        skips.pop();
        for (scale, stage) in self.decoder.iter().enumerate() {
            let Some(skip) = skips.pop() else { break };
            x = self.join(stage, x, skip)?;
            visit(scale, &x)?;
        }
        Ok(())
    }

    fn encode(&self, stage: &Stage, x: Tensor) -> Result<Tensor> {
        if !(self.config.checkpointing && records_gradients()) {
            return stage.forward(x);
        }
        let again = stage.shallow_clone();
        checkpointed(&x, None, stage.trained(), move |x| {
            again.forward(x[0].shallow_clone())
        })
    }

    fn join(&self, stage: &DecoderStage, coarse: Tensor, skip: Tensor) -> Result<Tensor> {
        if !(self.config.checkpointing && records_gradients()) {
            return stage.forward(coarse, skip);
        }
        let again = stage.shallow_clone();
        checkpointed(&coarse, Some(&skip), stage.trained(), move |x| {
            again.forward(x[0].shallow_clone(), x[1].shallow_clone())
        })
    }
}

/// A stage of the decoder: brings the coarser map to the grid of the encoder's, joins the two.
#[derive(Debug)]
struct DecoderStage {
    upsample: Conv3d,
    factor: [usize; 3],
    stage: Stage,
}

impl DecoderStage {
    fn shallow_clone(&self) -> Self {
        Self {
            upsample: self.upsample.shallow_clone(),
            factor: self.factor,
            stage: self.stage.shallow_clone(),
        }
    }

    /// One of its weights that is being trained.
    fn trained(&self) -> Option<&Tensor> {
        let upsample = self.upsample.tensors().into_iter();
        upsample
            .filter(|w| w.requires_grad())
            .chain(self.stage.trained())
            .next()
    }

    /// Takes the maps by value, so that without a graph they are gone once they are joined.
    fn forward(&self, coarse: Tensor, skip: Tensor) -> Result<Tensor> {
        // The reference enlarges, then mixes channels. A 1×1×1 convolution sees single voxels, so
        // mixing first gives the same numbers from an eighth of the work.
        let mixed = self.upsample.forward(&coarse)?;
        drop(coarse);
        self.stage.forward(join_enlarged(mixed, self.factor, skip)?)
    }
}

/// Leaves the features of a stage as they are.
fn unchanged(_stage: usize, features: Tensor) -> Result<Tensor> {
    Ok(features)
}

impl SegmentationNet for StuNet {
    fn forward_scales(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        if !self.config.deep_supervision {
            return Ok(vec![self.forward(images)?]);
        }
        let mut scales = Vec::with_capacity(SCALES);
        let (_, _, z, y, x) = images.size5()?;
        self.decode(images, unchanged, |scale, map| {
            let logits = self.heads[scale].forward(map)?.f_to_kind(Kind::Float)?;
            let enlarge = self.config.upscale_logits && scale + 1 < SCALES;
            scales.push(if enlarge {
                upsample_linear(&logits, [z, y, x])?
            } else {
                logits
            });
            Ok(())
        })?;
        scales.reverse();
        Ok(scales)
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.forward_perturbed(images, &mut unchanged)
    }

    fn forward_perturbed(
        &self,
        images: &Tensor,
        perturb: &mut dyn FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut finest = None;
        self.decode(images, perturb, |scale, x| {
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

    fn stem_weights(&self) -> Vec<String> {
        ["conv1", "conv3"]
            .map(|part| format!("conv_blocks_context.0.0.{part}.weight"))
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_nn::Precision;
    use liseg_nn::tch::no_grad;
    use liseg_volume::Seed;

    fn small() -> StuNetConfig {
        StuNetConfig {
            widths: [2, 2, 4, 4, 4, 4],
            precision: Precision::F32,
            ..StuNetConfig::small(3)
        }
    }

    fn scales(change: impl Fn(&mut StuNetConfig)) -> Vec<Tensor> {
        let mut config = small();
        change(&mut config);
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = StuNet::new(&config, Device::Cpu, &mut rng).unwrap();
        let channels = config.input_channels;
        let images = Tensor::ones([1, channels, 32, 32, 32], (Kind::Float, Device::Cpu));
        net.forward_scales(&images).unwrap()
    }

    #[test]
    fn logits_come_raw_enlarged_or_at_the_finest_scale_alone() {
        let raw = scales(|_| ());
        let sides: Vec<_> = raw.iter().map(|s| s.size()[4]).collect();
        assert_eq!(sides, [32, 16, 8, 4, 2]);
        let enlarged = scales(|c| c.upscale_logits = true);
        assert_eq!(enlarged.len(), 5);
        for (raw, enlarged) in raw.iter().zip(&enlarged) {
            let expected = upsample_linear(raw, [32; 3]).unwrap();
            assert!(enlarged.equal(&expected));
        }
        let finest = scales(|c| c.deep_supervision = false);
        assert_eq!(finest.len(), 1);
        assert!(finest[0].equal(&raw[0]));
        let multi = scales(|c| c.input_channels = 4);
        assert_eq!(multi[0].size(), [1, 3, 32, 32, 32]);
    }

    #[test]
    fn the_layout_of_the_input_reaches_the_last_map() {
        let mut rng = Seed(1).stream("weights", 0, 0);
        let net = StuNet::new(&small(), Device::Cpu, &mut rng).unwrap();
        let layout = |samples: i64| {
            let images = Tensor::ones([samples, 1, 64, 64, 64], (Kind::Float, Device::Cpu));
            let mut between_channels = Vec::new();
            let visit = |_, map: &Tensor| {
                between_channels.push(map.stride()[1]);
                Ok(())
            };
            net.decode(&images, unchanged, visit).unwrap();
            between_channels
        };
        assert_eq!(layout(2), [1; SCALES]);
        assert_eq!(no_grad(|| layout(1)), [1; SCALES]);
    }
}
