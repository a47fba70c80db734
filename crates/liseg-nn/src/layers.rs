//! Layers whose parameters carry the names of published checkpoints.
//!
//! Activations may be f32 or bf16; weights are f32 and are narrowed to the activations' format in
//! front of each convolution, which keeps gradients and optimiser state in f32.
//!
//! # Memory layout
//! Activations run channels-last (`[n, z, y, x, c]` in memory behind the usual `[n, c, z, y, x]` shape): oneDNN and
//! cuDNN then work on them directly, where the default layout costs a reordering before and after every convolution.
//! [`to_compute_layout`] makes the input so, and every layer here keeps it.

mod enlarge;
mod norm;

pub use enlarge::{join_enlarged, upsample_linear};
pub use norm::InstanceNorm;

use crate::checkpointing::is_without_gradients;
use crate::kernels::weight_gradient;
use crate::{Parameters, Result};
use rand::Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

/// Negative slope of every leaky rectifier, as in nnU-Net and STU-Net.
pub const NEGATIVE_SLOPE: f64 = 0.01;

/// 3-D convolution with bias.
#[derive(Debug)]
pub struct Conv3d {
    weight: Tensor,
    bias: Tensor,
    stride: [i64; 3],
    padding: [i64; 3],
}

impl Conv3d {
    /// The same layer on the same weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// A convolution `inputs` → `outputs` channels with a cubic odd `kernel` and half padding,
    /// named `{path}.weight` and `{path}.bias`.
    ///
    /// Weights are drawn from He's normal distribution for leaky rectifiers,
    /// N(0, 2 / ((1 + 0.01²) · inputs · kernel³)), biases are zero, as in nnU-Net and STU-Net.
    ///
    /// # Errors
    /// When the name is taken or libtorch fails.
    pub fn new(
        parameters: &mut Parameters,
        path: &str,
        change: (i64, i64),
        kernel: i64,
        stride: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        Self::with_kernel(parameters, path, change, [kernel; 3], stride, rng)
    }

    /// [`Conv3d::new`] with an odd `kernel` of its own along each of (z, y, x).
    ///
    /// # Errors
    /// When the name is taken or libtorch fails.
    pub fn with_kernel(
        parameters: &mut Parameters,
        path: &str,
        (inputs, outputs): (i64, i64),
        kernel: [i64; 3],
        stride: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let [kz, ky, kx] = kernel;
        let (weight, bias) = weight_and_bias(
            parameters,
            path,
            [outputs, inputs, kz, ky, kx],
            outputs,
            rng,
        )?;
        Ok(Self {
            weight,
            bias,
            stride: stride.map(|s| s as i64),
            padding: kernel.map(|k| k / 2),
        })
    }

    /// Weights and bias.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// `[n, inputs, z, y, x]` → `[n, outputs, z / stride, y / stride, x / stride]`, in the
    /// number format of `x`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let ours = kind == Kind::Float && x.device() == Device::Cpu;
        if ours && self.is_product() {
            return self.product(x);
        }
        let weight = self.weight.f_to_kind(kind)?;
        let bias = self.bias.f_to_kind(kind)?;
        let (padded, padding) = self.pad_where_thin(x, kind)?;
        let x = padded.as_ref().unwrap_or(x);
        if kind == Kind::Float && is_best_by_onednn(x) {
            return Ok(x.f_mkldnn_convolution(
                &weight,
                Some(&bias),
                padding,
                self.stride,
                [1i64; 3],
                1,
            )?);
        }
        if ours && self.sums_its_gradient(x) {
            return crate::shim::convolution(x, [&weight, &bias], self.stride, padding);
        }
        Ok(x.f_conv3d(&weight, Some(&bias), self.stride, padding, [1i64; 3], 1)?)
    }

    fn is_product(&self) -> bool {
        self.weight.size()[2..] == [1, 1, 1] && self.stride == [1, 1, 1]
    }

    /// A kernel of one voxel is a product of matrices. With one thread libtorch would take its kernel without oneDNN, which
    /// loses the layout.
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let (n, inputs, depth, height, width) = x.size5()?;
        let outputs = self.weight.size()[0];
        let voxels = x
            .f_permute([0, 2, 3, 4, 1])?
            .f_reshape([n * depth * height * width, inputs])?;
        let weight = self.weight.f_view([outputs, inputs])?;
        Ok(voxels
            .f_linear(&weight, Some(&self.bias))?
            .f_view([n, depth, height, width, outputs])?
            .f_permute([0, 4, 1, 2, 3])?)
    }

    /// Whether a gradient of the weights will be asked for, which [`weight_gradient`] sums better than libtorch.
    fn sums_its_gradient(&self, x: &Tensor) -> bool {
        let wanted = self.weight.requires_grad() && !is_without_gradients();
        let [columns, outputs] = [self.weight.size()[4], self.weight.size()[0]];
        let width = x.size().last().map_or(0, |w| (w - 1) / self.stride[2] + 1);
        wanted && weight_gradient::pays(columns, outputs, width)
    }

    /// The padding left to the convolution and, where it must not pad along z, the padded map.
    ///
    /// In libtorch 2.11 on a CPU, oneDNN's bf16 kernel for gradients of weights reads memory that
    /// nobody wrote when every plane of the result reaches into the padding at stride 1, as with a
    /// kernel of 3 on two planes: the gradients are garbage, often not finite. Zeros put around the
    /// map beforehand give the same convolution without it.
    fn pad_where_thin(&self, x: &Tensor, kind: Kind) -> Result<(Option<Tensor>, [i64; 3])> {
        let [pad, pad_y, pad_x] = self.padding;
        let depth = x.size().get(2).copied().unwrap_or(0);
        let thin = self.stride[0] == 1 && (2..=2 * pad).contains(&depth);
        if thin && kind == Kind::BFloat16 && x.device() == Device::Cpu {
            let padded = x.f_constant_pad_nd([0, 0, 0, 0, pad, pad])?;
            return Ok((Some(padded), [0, pad_y, pad_x]));
        }
        Ok((None, self.padding))
    }
}

/// Whether to call oneDNN for a convolution in f32 where libtorch would choose.
///
/// It keeps small single samples from oneDNN, and with one thread all kernels of a single voxel, and unfolds them instead:
/// that takes up to twenty times as long and a copy of every voxel with its neighbours, and loses the layout.
fn is_best_by_onednn(x: &Tensor) -> bool {
    x.device() == Device::Cpu && is_without_gradients() && crate::shim::has_onednn()
}

/// 3-D transposed convolution with bias whose kernel is its stride: every voxel becomes a block, and
/// blocks do not overlap.
#[derive(Debug)]
pub struct TransposedConv3d {
    weight: Tensor,
    bias: Tensor,
    stride: [i64; 3],
}

impl TransposedConv3d {
    /// Enlarges the grid `stride` times along (z, y, x), `inputs` → `outputs` channels; named
    /// `{path}.weight` (`[inputs, outputs, …]`) and `{path}.bias`.
    ///
    /// Weights are drawn as those of [`Conv3d::new`], where PyTorch takes `outputs` for the number of
    /// inputs; biases are zero, as in nnU-Net.
    ///
    /// # Errors
    /// When the name is taken or libtorch fails.
    pub fn new(
        parameters: &mut Parameters,
        path: &str,
        (inputs, outputs): (i64, i64),
        stride: [usize; 3],
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let stride = stride.map(|s| s as i64);
        let [kz, ky, kx] = stride;
        let (weight, bias) = weight_and_bias(
            parameters,
            path,
            [inputs, outputs, kz, ky, kx],
            outputs,
            rng,
        )?;
        Ok(Self {
            weight,
            bias,
            stride,
        })
    }

    /// The same layer on the same weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            stride: self.stride,
        }
    }

    /// Weights and bias.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// `[n, inputs, z, y, x]` → `[n, outputs, z · stride, y · stride, x · stride]`, in the number
    /// format of `x`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let weight = self.weight.f_to_kind(kind)?;
        let bias = self.bias.f_to_kind(kind)?;
        let y = x.f_conv_transpose3d(
            &weight,
            Some(&bias),
            self.stride,
            [0i64; 3],
            [0i64; 3],
            1,
            [1i64; 3],
        )?;
        // Small single samples in f32 come in the default layout, which the maps joined with them would take.
        if x.device() == Device::Cpu && is_without_gradients() {
            return to_compute_layout(&y, kind);
        }
        Ok(y)
    }
}

fn weight_and_bias(
    parameters: &mut Parameters,
    path: &str,
    shape: [i64; 5],
    outputs: i64,
    rng: &mut dyn Rng,
) -> Result<(Tensor, Tensor)> {
    let weight = parameters.add(&format!("{path}.weight"), he_normal(&shape, rng)?)?;
    let zeros = Tensor::f_zeros([outputs], (Kind::Float, Device::Cpu))?;
    let bias = parameters.add(&format!("{path}.bias"), zeros)?;
    Ok((weight, bias))
}

/// Draws He-normal weights of a convolution, see [`Conv3d::new`].
///
/// # Errors
/// When libtorch fails.
pub fn he_normal(shape: &[i64; 5], rng: &mut dyn Rng) -> Result<Tensor> {
    let fan_in = (shape[1] * shape[2] * shape[3] * shape[4]).max(1) as f64;
    let deviation = (2.0 / ((1.0 + NEGATIVE_SLOPE * NEGATIVE_SLOPE) * fan_in)).sqrt();
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = match Normal::new(0.0f32, deviation as f32) {
        Ok(normal) => (0..count).map(|_| normal.sample(rng)).collect(),
        Err(_) => vec![0.0; count],
    };
    Ok(Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?)
}

/// The input in the number format and memory layout that layers compute with on its device.
///
/// # Errors
/// When libtorch fails.
pub fn to_compute_layout(x: &Tensor, kind: Kind) -> Result<Tensor> {
    let x = x.f_to_kind(kind)?;
    let (n, c, z, y, w) = x.size5()?;
    if c == 1 {
        // With one channel both layouts are the same bytes; only the stride of the channel axis
        // tells oneDNN which one is meant.
        let strides = [z * y * w, 1, y * w, w, 1];
        return Ok(x
            .f_contiguous()?
            .f_as_strided([n, c, z, y, w], strides, None)?);
    }
    Ok(x.f_permute([0, 2, 3, 4, 1])?
        .f_contiguous()?
        .f_permute([0, 4, 1, 2, 3])?)
}

#[cfg(test)]
mod testing {
    use tch::Tensor;

    /// A map whose values between -1 and 1.24 do not repeat over 113 neighbours.
    pub(super) fn input(size: [i64; 5]) -> Tensor {
        let count = size.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 7919) % 113) as f32 / 50.0 - 1.0)
            .collect();
        Tensor::from_slice(&values).view(size.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::input;
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    /// In plain bf16 the gradients of a kernel of 3 on two planes, and of 5 on two to four, are garbage.
    #[test]
    fn gradients_in_bf16_are_those_of_f32_however_few_planes() {
        let mut p = Parameters::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1)] {
            let path = format!("conv{kernel}{stride}");
            let strides = [stride, 1, 1];
            let conv = Conv3d::new(&mut p, &path, (16, 16), kernel, strides, &mut rng).unwrap();
            for depth in 1..7 {
                let gradient_in = |kind| {
                    let x = to_compute_layout(&input([1, 16, depth, 6, 6]), kind).unwrap();
                    let [weight, _] = conv.tensors();
                    let y = conv.forward(&x).unwrap().to_kind(Kind::Float);
                    let size: [i64; 5] = y.size().try_into().unwrap();
                    let loss = (&y * input(size).cos()).sum(Kind::Float);
                    Tensor::run_backward(&[loss], &[weight], false, false).swap_remove(0)
                };
                let (wide, narrow) = (gradient_in(Kind::Float), gradient_in(Kind::BFloat16));
                let error = (&narrow - &wide).abs().max() / wide.abs().max();
                let error = error.double_value(&[]);
                assert!(
                    error < 0.05,
                    "kernel {kernel}, stride {stride}, {depth} planes: {error}"
                );
            }
        }
    }

    /// A convolution of `[2, 5, 6, 8, 12]` and the gradients of a weighted sum of it: result, of the map, of the weights, of
    /// the bias.
    struct Setting {
        wanted: [bool; 3],
        stride: i64,
    }

    impl Setting {
        fn outcome(
            &self,
            of: impl Fn(Tensor) -> Tensor,
            convolve: impl Fn([&Tensor; 3]) -> Tensor,
        ) -> [Tensor; 4] {
            let leaf = |t: Tensor, wanted: bool| of(t).detach().set_requires_grad(wanted);
            let x = leaf(input([2, 5, 6, 8, 12]), self.wanted[0]);
            let weight = leaf(input([16, 5, 3, 3, 3]), self.wanted[1]);
            let bias = leaf(input([1, 1, 1, 1, 16]).view(16), self.wanted[2]);
            let y = convolve([&x, &weight, &bias]);
            let factors = input([2, 16, 6, 8, 12]).slice(2, 0, 6, self.stride);
            let factors = factors.slice(3, 0, 8, self.stride);
            let factors = of(factors.slice(4, 0, 12, self.stride));
            (&y * factors).sum(None::<Kind>).backward();
            [y.detach(), x.grad(), weight.grad(), bias.grad()]
        }

        fn of_libtorch(&self, [x, weight, bias]: [&Tensor; 3]) -> Tensor {
            x.conv3d(
                weight,
                Some(bias),
                [self.stride; 3],
                [1i64; 3],
                [1i64; 3],
                1,
            )
        }
    }

    /// Against sums in f64. A sum of n products in f32 is at most n · ε · Σ |products| off, in whatever order a processor
    /// adds them (Higham 2002, section 4.2).
    #[test]
    fn gradients_summed_here_are_those_of_the_definition() {
        // What a processor without AVX2 has in place of it is libtorch's own.
        let here = |setting: &Setting, [x, weight, bias]: [&Tensor; 3]| {
            if weight_gradient::is_supported() {
                crate::shim::convolution(x, [weight, bias], [setting.stride; 3], [1; 3]).unwrap()
            } else {
                setting.of_libtorch([x, weight, bias])
            }
        };
        let layout = |t: Tensor| match t.dim() {
            5 => to_compute_layout(&t, Kind::Float).unwrap(),
            _ => t,
        };
        for wanted in [[true; 3], [false, true, false], [true, false, true]] {
            for stride in [1, 2] {
                let setting = Setting { wanted, stride };
                let found = setting.outcome(layout, |of| here(&setting, of));
                let exact =
                    setting.outcome(|t| t.to_kind(Kind::Double), |of| setting.of_libtorch(of));
                let sizes = setting.outcome(
                    |t| t.to_kind(Kind::Double).abs(),
                    |of| setting.of_libtorch(of),
                );
                let voxels = found[0].numel() / 16;
                // Products in a sum, in the order of the outcomes.
                let products = [5 * 27 + 1, 16 * 27, voxels, voxels];
                for (i, found) in found.iter().enumerate() {
                    assert_eq!(found.defined(), exact[i].defined(), "{wanted:?}");
                    if !found.defined() {
                        continue;
                    }
                    let allowed = &sizes[i] * (products[i] as f64 * f64::from(f32::EPSILON));
                    let off = (found.to_kind(Kind::Double) - &exact[i]).abs();
                    let worst = (off / allowed).max().double_value(&[]);
                    assert!(
                        worst <= 1.0,
                        "outcome {i} of {wanted:?}: {worst} of what is allowed"
                    );
                }
            }
        }
    }

    #[test]
    fn small_samples_are_predicted_in_their_layout_with_the_values_of_training() {
        let mut p = Parameters::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let x = to_compute_layout(&input([1, 3, 4, 6, 8]), Kind::Float).unwrap();
        for (kernel, stride) in [(3, [1; 3]), (3, [1, 2, 2]), (1, [1; 3]), (1, [2; 3])] {
            let path = format!("conv{kernel}{stride:?}");
            let conv = Conv3d::new(&mut p, &path, (3, 5), kernel, stride, &mut rng).unwrap();
            let training = conv.forward(&x).unwrap();
            let predicted = tch::no_grad(|| conv.forward(&x).unwrap());
            assert!((&training - &predicted).abs().max().double_value(&[]) < 1e-5);
            assert_eq!(
                predicted.stride()[1],
                1,
                "kernel {kernel}, stride {stride:?}"
            );
        }
        let up = TransposedConv3d::new(&mut p, "up", (3, 5), [1, 2, 2], &mut rng).unwrap();
        let predicted = tch::no_grad(|| up.forward(&x).unwrap());
        assert!(predicted.equal(&up.forward(&x).unwrap()));
        assert_eq!(predicted.stride()[1], 1);
    }

    #[test]
    fn layout_changes_no_value_and_survives_layers() {
        let mut p = Parameters::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for channels in [1, 3] {
            let path = format!("conv{channels}");
            let conv = Conv3d::new(&mut p, &path, (channels, 5), 3, [1, 2, 2], &mut rng).unwrap();
            let norm = InstanceNorm::new(&mut p, &format!("norm{channels}"), 5).unwrap();
            // Large enough that libtorch hands it to oneDNN, which has the layout.
            let x = input([1, channels, 160, 136, 8]);
            let last = to_compute_layout(&x, Kind::Float).unwrap();
            assert!(x.equal(&last));
            let (a, b) = (conv.forward(&x).unwrap(), conv.forward(&last).unwrap());
            assert_eq!(b.size(), [1, 5, 160, 68, 4]);
            assert!((&a - &b).abs().max().double_value(&[]) < 1e-5);
            let b = norm.rectified(b, None).unwrap();
            let b = join_enlarged(b, [1, 2, 2], last).unwrap();
            assert_eq!(b.stride()[1], 1, "the layout was lost on the way");
        }
    }

    #[test]
    fn a_transposed_convolution_turns_voxels_into_blocks() {
        let mut p = Parameters::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let up = TransposedConv3d::new(&mut p, "up", (2, 3), [1, 2, 2], &mut rng).unwrap();
        let x = input([1, 2, 2, 2, 3]);
        let y = up.forward(&x).unwrap();
        assert_eq!(y.size(), [1, 3, 2, 4, 6]);
        // Voxel (1, 3, 4) of channel 2 lies in the block of voxel (1, 1, 2), at (0, 1, 0) of it.
        let w = p.get("up.weight").unwrap();
        let by_hand: f64 = (0..2)
            .map(|c| x.double_value(&[0, c, 1, 1, 2]) * w.double_value(&[c, 2, 0, 1, 0]))
            .sum();
        assert!((y.double_value(&[0, 2, 1, 3, 4]) - by_hand).abs() < 1e-6);
    }

    #[test]
    fn weights_have_the_variance_of_he() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let w = he_normal(&[64, 16, 3, 3, 3], &mut rng).unwrap();
        let expected = (2.0 / (1.0001 * 16.0 * 27.0f64)).sqrt();
        assert!((w.std(false).double_value(&[]) / expected - 1.0).abs() < 0.02);
    }
}
