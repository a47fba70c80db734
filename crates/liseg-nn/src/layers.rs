//! Layers whose parameters carry the names of published checkpoints.
//!
//! Activations may be f32 or bf16; weights are f32 and are narrowed to the activations' format in
//! front of each convolution, which keeps gradients and optimiser state in f32.
//!
//! # Memory layout
//! Activations run channels-last (`[n, z, y, x, c]` in memory behind the usual `[n, c, z, y, x]` shape): oneDNN and
//! cuDNN then work on them directly, where the default layout costs a reordering before and after every convolution.
//! [`to_compute_layout`] makes the input so, and every layer here keeps it.

use crate::checkpointing::is_without_gradients;
use crate::{Parameters, Result};
use rand::Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

/// Negative slope of every leaky rectifier, as in nnU-Net and STU-Net.
pub const NEGATIVE_SLOPE: f64 = 0.01;

/// Added to the variance in instance normalisation (PyTorch's default).
const NORM_EPSILON: f64 = 1e-5;

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
        Ok(x.f_conv3d(&weight, Some(&bias), self.stride, padding, [1i64; 3], 1)?)
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
/// that takes up to twenty times as long and a copy of every voxel with its neighbours, and loses the layout. Where gradients
/// are wanted they would be unfolded all the same, and norms sum such small maps more exactly in the default layout.
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

/// Instance normalisation with learnt scale and shift: every channel of every sample to mean 0 and
/// variance 1 over its voxels (Ulyanov et al. 2016), then · weight + bias.
#[derive(Debug)]
pub struct InstanceNorm {
    weight: Tensor,
    bias: Tensor,
}

impl InstanceNorm {
    /// The same layer on the same weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
        }
    }

    /// Normalises `channels` channels, named `{path}.weight` (ones) and `{path}.bias` (zeros).
    ///
    /// # Errors
    /// When the name is taken or libtorch fails.
    pub fn new(parameters: &mut Parameters, path: &str, channels: i64) -> Result<Self> {
        let on_cpu = (Kind::Float, Device::Cpu);
        Ok(Self {
            weight: parameters.add(
                &format!("{path}.weight"),
                Tensor::f_ones([channels], on_cpu)?,
            )?,
            bias: parameters.add(
                &format!("{path}.bias"),
                Tensor::f_zeros([channels], on_cpu)?,
            )?,
        })
    }

    /// Scale and shift.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// `[n, c, z, y, x]` → the same shape. Statistics are taken in f32 whatever the format of `x`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // libtorch's instance norm copies channels-last input into the default layout and back. Batch norm over a single
        // sample computes the same thing and has a channels-last kernel.
        let samples = x.size()[0];
        if samples == 1 {
            return self.forward_one(x);
        }
        // Split at once: the gradient of one split is one joining, that of each piece cut by itself a whole map.
        let normalised = x
            .f_split(1, 0)?
            .iter()
            .map(|one| self.forward_one(one))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&normalised, 0)?)
    }

    /// [`InstanceNorm::forward`] that writes over its argument where no gradient is recorded, and so needs
    /// no second map; the same values.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward_over(&self, x: Tensor) -> Result<Tensor> {
        // On a GPU the kernel that writes over its argument is another one than that of training, which the two runs of a
        // checkpointed stage have to share.
        let over = match x.device() {
            Device::Cpu => !crate::records_gradients(),
            _ => is_without_gradients(),
        };
        if !over {
            return self.forward(&x);
        }
        let channels = self.weight.size();
        let beside = (Kind::Float, x.device());
        let mean = Tensor::f_empty(channels.as_slice(), beside)?;
        let deviation = Tensor::f_empty(channels.as_slice(), beside)?;
        for i in 0..x.size()[0] {
            let one = x.f_narrow(0, i, 1)?;
            // Statistics are complete before the first value is written.
            let _ = one.f_native_batch_norm_out(
                &one,
                &mean,
                &deviation,
                Some(&self.weight),
                Some(&self.bias),
                None::<&Tensor>,
                None::<&Tensor>,
                true,
                0.1,
                NORM_EPSILON,
            )?;
        }
        Ok(x)
    }

    fn forward_one(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            None::<&Tensor>,
            None::<&Tensor>,
            true,
            0.1,
            NORM_EPSILON,
            false,
        )?)
    }
}

/// Leaky rectifier max(x, 0.01·x), overwriting its argument.
///
/// # Errors
/// When libtorch fails.
pub fn leaky_relu(mut x: Tensor) -> Result<Tensor> {
    Ok(x.f_leaky_relu_()?)
}

/// Enlarges a map to `shape` voxels (z, y, x) by linear interpolation between voxel centres.
///
/// # Errors
/// When libtorch fails.
pub fn upsample_linear(x: &Tensor, shape: [i64; 3]) -> Result<Tensor> {
    Ok(x.f_upsample_trilinear3d(shape, false, None, None, None)?)
}

/// Repeats every voxel `factor` times along (z, y, x): nearest-neighbour upsampling.
///
/// # Errors
/// When libtorch fails.
pub fn upsample_nearest(x: &Tensor, factor: [usize; 3]) -> Result<Tensor> {
    let size = x.size();
    let target: [i64; 3] = std::array::from_fn(|a| size[a + 2] * factor[a] as i64);
    let scale = factor.map(|f| f as f64);
    Ok(x.f_upsample_nearest3d(target, scale[0], scale[1], scale[2])?)
}

/// Repeats every voxel of `coarse` `factor` times along (z, y, x), as [`upsample_nearest`], and puts its channels before
/// those of `fine`: `[n, a, z, y, x]` and `[n, b, z·fz, y·fy, x·fx]` → `[n, a + b, z·fz, y·fy, x·fx]`. Both are dropped as
/// soon as nothing needs them.
///
/// # Errors
/// When the shapes do not fit together or libtorch fails.
pub fn join_enlarged(coarse: Tensor, factor: [usize; 3], fine: Tensor) -> Result<Tensor> {
    if coarse.device() != Device::Cpu {
        return join_repeated(&coarse, factor, &fine);
    }
    let enlarged = upsample_nearest(&coarse, factor)?;
    drop(coarse);
    Ok(Tensor::f_cat(&[enlarged, fine], 1)?)
}

/// [`join_enlarged`] in one pass, for CUDA devices: libtorch enlarges maps there in the default layout alone, and the
/// joined one would stay in it. (On a CPU gradients of the repeated voxels add up in half the speed.)
fn join_repeated(coarse: &Tensor, factor: [usize; 3], fine: &Tensor) -> Result<Tensor> {
    let (n, a, z, y, x) = coarse.size5()?;
    let b = fine.size5()?.1;
    let [fz, fy, fx] = factor.map(|f| f as i64);
    let channels_last = [0, 2, 3, 4, 1];
    let repeated = coarse
        .f_permute(channels_last)?
        .f_reshape([n, z, 1, y, 1, x, 1, a])?
        .f_expand([n, z, fz, y, fy, x, fx, a], false)?;
    let fine = fine
        .f_permute(channels_last)?
        .f_reshape([n, z, fz, y, fy, x, fx, b])?;
    Ok(Tensor::f_cat(&[repeated, fine], -1)?
        .f_reshape([n, z * fz, y * fy, x * fx, a + b])?
        .f_permute([0, 4, 1, 2, 3])?)
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
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    fn input(size: [i64; 5]) -> Tensor {
        let count = size.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 7919) % 113) as f32 / 50.0 - 1.0)
            .collect();
        Tensor::from_slice(&values).view(size.as_slice())
    }

    #[test]
    fn maps_join_alike_on_every_device() {
        let (coarse, fine) = (input([2, 3, 2, 3, 4]), input([2, 5, 2, 6, 12]));
        let factor = [1, 2, 3];
        let outcome = |join: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>| {
            let of = |t: &Tensor| {
                let t = to_compute_layout(t, Kind::Float).unwrap();
                t.detach().set_requires_grad(true)
            };
            let (coarse, fine) = (of(&coarse), of(&fine));
            let joined = join(&coarse, &fine).unwrap();
            // Each voxel with a weight of its own.
            let weights = input([2, 8, 2, 6, 12]);
            (&joined * weights).sum(Kind::Float).backward();
            [joined.detach(), coarse.grad(), fine.grad()]
        };
        let here = outcome(&|a, b| join_enlarged(a.shallow_clone(), factor, b.shallow_clone()));
        let there = outcome(&|a, b| join_repeated(a, factor, b));
        assert_eq!(here[0].size(), [2, 8, 2, 6, 12]);
        for (a, b) in here.iter().zip(&there) {
            assert!(a.allclose(b, 1e-6, 1e-6, false));
        }
        let layout = |t: &Tensor| t.permute([0, 2, 3, 4, 1]).is_contiguous();
        assert!(layout(&here[0]) && layout(&there[0]));
    }

    #[test]
    fn normalises_every_channel_of_every_sample() {
        let mut p = Parameters::new(Device::Cpu);
        let norm = InstanceNorm::new(&mut p, "norm", 3).unwrap();
        let x = input([2, 3, 4, 6, 8]) * 5.0 + 2.0;
        for x in [
            x.shallow_clone(),
            to_compute_layout(&x, Kind::Float).unwrap(),
        ] {
            let y = norm.forward(&x).unwrap();
            let [weight, bias] = norm.tensors().map(Some);
            let none = None::<&Tensor>;
            let reference =
                x.instance_norm(weight, bias, none, none, true, 0.1, NORM_EPSILON, true);
            assert!((&y - reference).abs().max().double_value(&[]) < 1e-5);
            let mean = y.mean_dim([2i64, 3, 4].as_slice(), false, Kind::Float);
            assert!(mean.abs().max().double_value(&[]) < 1e-5);
            let _guard = tch::no_grad_guard();
            for kind in [Kind::Float, Kind::BFloat16] {
                let x = x.to_kind(kind);
                let y = norm.forward(&x).unwrap();
                let place = x.data_ptr();
                let over = norm.forward_over(x).unwrap();
                assert!(over.equal(&y), "{kind:?}");
                assert_eq!((over.data_ptr(), over.stride()), (place, y.stride()));
            }
        }
    }

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
            let b = upsample_nearest(&leaky_relu(norm.forward(&b).unwrap()).unwrap(), [1, 2, 2]);
            assert_eq!(b.unwrap().stride()[1], 1, "the layout was lost on the way");
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
