//! The network.

use super::UnetConfig;
use liseg_nn::layers::{Conv3d, InstanceNorm, TransposedConv3d, to_compute_layout};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Error, Parameters, Result, SegmentationNet, checkpointed, records_gradients};
use rand::Rng;

/// A plain U-Net as nnU-Net builds it (its `PlainConvUNet`), with the same parameter names.
///
/// Every stage is a stack of convolution – instance norm – leaky rectifier; a stage's first
/// convolution carries the stride. The decoder enlarges by transposed convolutions, joins the
/// encoder's map of the same grid and runs a stack of its own. A 1×1×1 head stands at every scale.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    parameters: Parameters,
    encoder: Vec<Stack>,
    decoder: Vec<DecoderStage>,
    heads: Vec<Conv3d>,
}

/// Convolutions with their norms and rectifiers, one after another.
#[derive(Debug)]
struct Stack(Vec<(Conv3d, InstanceNorm)>);

impl Stack {
    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for (convolution, norm) in &self.0 {
            x = norm.rectified(convolution.forward(&x)?, None)?;
        }
        Ok(x)
    }

    fn shallow_clone(&self) -> Self {
        let clone = |(c, n): &(Conv3d, InstanceNorm)| (c.shallow_clone(), n.shallow_clone());
        Self(self.0.iter().map(clone).collect())
    }

    /// One of its weights that is being trained.
    fn trained(&self) -> Option<&Tensor> {
        self.0
            .iter()
            .flat_map(|(convolution, norm)| [convolution.tensors(), norm.tensors()])
            .flatten()
            .find(|weight| weight.requires_grad())
    }
}

/// A stage of the decoder: brings the coarser map to the grid of the encoder's, joins the two.
#[derive(Debug)]
struct DecoderStage {
    upsample: TransposedConv3d,
    stack: Stack,
}

impl DecoderStage {
    /// One of its weights that is being trained.
    fn trained(&self) -> Option<&Tensor> {
        let upsample = self.upsample.tensors().into_iter();
        upsample
            .filter(|w| w.requires_grad())
            .chain(self.stack.trained())
            .next()
    }

    /// Takes the maps by value, so that without a graph they are gone once they are joined.
    fn forward(&self, coarse: Tensor, skip: Tensor) -> Result<Tensor> {
        let enlarged = self.upsample.forward(&coarse)?;
        drop(coarse);
        let joined = Tensor::f_cat(&[enlarged, skip], 1)?;
        self.stack.forward(joined)
    }

    fn shallow_clone(&self) -> Self {
        Self {
            upsample: self.upsample.shallow_clone(),
            stack: self.stack.shallow_clone(),
        }
    }
}

/// A stack named `{path}.convs.{i}.conv` and `{path}.convs.{i}.norm`.
fn stack(
    parameters: &mut Parameters,
    path: &str,
    (mut inputs, outputs): (i64, i64),
    kernel: [i64; 3],
    (stride, convolutions): ([usize; 3], usize),
    rng: &mut dyn Rng,
) -> Result<Stack> {
    let mut layers = Vec::with_capacity(convolutions);
    for i in 0..convolutions {
        let stride = if i == 0 { stride } else { [1; 3] };
        let path = format!("{path}.convs.{i}");
        let change = (inputs, outputs);
        let convolution = Conv3d::with_kernel(
            parameters,
            &format!("{path}.conv"),
            change,
            kernel,
            stride,
            rng,
        )?;
        let norm = InstanceNorm::new(parameters, &format!("{path}.norm"), outputs)?;
        layers.push((convolution, norm));
        inputs = outputs;
    }
    Ok(Stack(layers))
}

impl Unet {
    /// A network with fresh weights: He-normal convolutions, zero biases, identity norms, drawn
    /// from `rng` alone.
    ///
    /// # Errors
    /// [`Error::Setting`] for a config that makes no network; when libtorch fails.
    pub fn new(config: &UnetConfig, device: Device, rng: &mut dyn Rng) -> Result<Self> {
        config.check()?;
        let mut parameters = Parameters::new(device);
        let p = &mut parameters;
        let features = &config.features_per_stage;
        let mut encoder = Vec::new();
        let mut inputs = config.input_channels;
        for (stage, &outputs) in features.iter().enumerate() {
            let stride = stage.checked_sub(1).map_or([1; 3], |i| config.strides[i]);
            encoder.push(stack(
                p,
                &format!("encoder.stages.{stage}.0"),
                (inputs, outputs),
                config.kernel_sizes[stage],
                (stride, config.convolutions),
                rng,
            )?);
            inputs = outputs;
        }
        let (mut decoder, mut heads) = (Vec::new(), Vec::new());
        for (scale, stage) in (0..config.stages() - 1).rev().enumerate() {
            let (below, width) = (features[stage + 1], features[stage]);
            let stack = stack(
                p,
                &format!("decoder.stages.{scale}"),
                (2 * width, width),
                config.kernel_sizes[stage],
                ([1; 3], config.convolutions),
                rng,
            )?;
            let path = format!("decoder.transpconvs.{scale}");
            let stride = config.strides[stage];
            let upsample = TransposedConv3d::new(p, &path, (below, width), stride, rng)?;
            decoder.push(DecoderStage { upsample, stack });
            let path = format!("decoder.seg_layers.{scale}");
            heads.push(Conv3d::new(
                p,
                &path,
                (width, config.classes),
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
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Runs encoder and decoder and hands the map of every decoder scale, coarsest first, to
    /// `visit`.
    fn decode(
        &self,
        images: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        crate::input::check(images, self.config.input_channels, self.stride_product())?;
        let kind = self.config.precision.kind(images.device());
        let mut x = to_compute_layout(images, kind)?;
        let mut skips = Vec::with_capacity(self.encoder.len());
        for stage in &self.encoder {
            x = self.encode(stage, x)?;
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

    fn encode(&self, stage: &Stack, x: Tensor) -> Result<Tensor> {
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

impl SegmentationNet for Unet {
    fn forward_scales(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        if !self.config.deep_supervision {
            return Ok(vec![self.forward(images)?]);
        }
        let mut scales = Vec::with_capacity(self.heads.len());
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
            if scale + 1 == self.heads.len() {
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
        vec!["decoder.seg_layers.".into()]
    }

    fn is_second_name(&self, name: &str) -> bool {
        super::identify::is_second_name(name)
    }

    fn stem_weights(&self) -> Vec<String> {
        vec!["encoder.stages.0.0.convs.0.conv.weight".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_nn::Precision;
    use liseg_volume::{Seed, Spacing};

    fn small(deep_supervision: bool) -> Unet {
        let spacing = Spacing::new(3.0, 1.0, 1.0).unwrap();
        let config = UnetConfig {
            features_per_stage: vec![4, 6, 8],
            deep_supervision,
            precision: Precision::F32,
            ..UnetConfig::for_grid(spacing, &[[1, 2, 2], [2, 2, 2]], 3)
        };
        let mut rng = Seed(1).stream("weights", 0, 0);
        Unet::new(&config, Device::Cpu, &mut rng).unwrap()
    }

    #[test]
    fn logits_have_the_grids_of_the_stages() {
        let images = Tensor::zeros([2, 1, 4, 16, 8], (Kind::Float, Device::Cpu));
        let net = small(true);
        let scales = net.forward_scales(&images).unwrap();
        let sizes: Vec<_> = scales.iter().map(Tensor::size).collect();
        assert_eq!(sizes, [[2, 3, 4, 16, 8], [2, 3, 4, 8, 4]]);
        assert!(net.forward(&images).unwrap().equal(&scales[0]));
        assert_eq!(small(false).forward_scales(&images).unwrap().len(), 1);
        let odd = Tensor::zeros([1, 1, 3, 16, 8], (Kind::Float, Device::Cpu));
        let message = net.forward(&odd).unwrap_err().to_string();
        assert!(message.contains("divisible by 2, 4, 4"), "{message}");
    }

    #[test]
    fn every_weight_that_reaches_a_loss_gets_a_gradient() {
        let net = small(true);
        let images = Tensor::rand([1, 1, 4, 16, 8], (Kind::Float, Device::Cpu));
        let scales = net.forward_scales(&images).unwrap();
        let terms: Vec<_> = scales
            .iter()
            .map(|s| s.square().mean(Kind::Float))
            .collect();
        Tensor::stack(&terms, 0).sum(Kind::Float).backward();
        for (name, weight) in net.parameters().iter() {
            assert!(weight.grad().defined(), "{name}");
        }
    }
}
