//! Small networks and a fixed problem.

use anyhow::Result;
use liseg::nn::clip_gradients;
use liseg::nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg::nn::tch::{Device, Kind, Tensor};
use liseg::nn::{GradientScaler, Optimiser, OptimiserConfig, Precision, SegmentationNet};
use liseg::stunet::{StuNet, StuNetConfig, Unet, UnetConfig};
use liseg::volume::{Seed, Spacing};

/// Makes a network: where, in which format, and whether maps are computed again.
pub(crate) type Make = fn(Device, Precision, bool) -> Result<Box<dyn SegmentationNet>>;

/// A small U-Net, the same weights on any device.
pub(crate) fn unet(
    device: Device,
    precision: Precision,
    checkpointing: bool,
) -> Result<Box<dyn SegmentationNet>> {
    let config = UnetConfig {
        precision,
        checkpointing,
        ..UnetConfig::for_grid(Spacing::new(1.0, 1.0, 1.0)?, &[[2; 3]; 2], 2)
    };
    let net = Unet::new(&config, device, &mut Seed(1).stream("weights", 0, 0))?;
    Ok(Box::new(net))
}

/// A small STU-Net, the same weights on any device.
pub(crate) fn network(
    device: Device,
    precision: Precision,
    checkpointing: bool,
) -> Result<Box<dyn SegmentationNet>> {
    let config = StuNetConfig {
        widths: [8, 8, 16, 16, 16, 16],
        strides: [[2; 3], [2; 3], [1; 3], [1; 3], [1; 3]],
        precision,
        checkpointing,
        ..StuNetConfig::small(2)
    };
    let net = StuNet::new(&config, device, &mut Seed(1).stream("weights", 0, 0))?;
    Ok(Box::new(net))
}

/// An image `[2, 1, 16, 16, 16]` of bright balls in waves, and which voxels are balls.
pub(crate) fn problem(device: Device) -> Result<(Tensor, Target)> {
    let n = 16;
    let (mut image, mut label) = (Vec::new(), Vec::new());
    for sample in 0..2 {
        for i in 0..n * n * n {
            let (z, y, x) = (i / (n * n), i / n % n, i % n);
            let centre = 6 + 3 * sample;
            let squared: i32 = [z, y, x].iter().map(|c| (c - centre) * (c - centre)).sum();
            let inside = squared < 20;
            let wave = (0.7 * z as f32).sin() + (1.1 * (y + 2 * x) as f32).cos();
            image.push(0.6 * wave + if inside { 1.0 } else { 0.0 });
            label.push(i64::from(inside));
        }
    }
    let size = i64::from(n);
    let image = Tensor::f_from_slice(&image)?.f_view([2, 1, size, size, size])?;
    let label = Tensor::f_from_slice(&label)?.f_view([2, size, size, size])?;
    let target = Target {
        label: label.f_to_device(device)?,
        valid: None,
    };
    Ok((image.f_to_device(device)?, target))
}

/// Losses of `steps` steps on the fixed problem.
pub(crate) fn losses(device: Device, precision: Precision, steps: usize) -> Result<Vec<f64>> {
    let net = network(device, precision, false)?;
    let (image, target) = problem(device)?;
    let loss = DeepSupervision::new(DiceCrossEntropy::default());
    let mut optimiser = Optimiser::new(OptimiserConfig::adamw(), net.parameters())?;
    let mut scaler = (precision == Precision::Fp16).then(GradientScaler::default);
    let mut curve = Vec::with_capacity(steps);
    for _ in 0..steps {
        let terms = loss.terms(&net.forward_scales(&image)?, &target)?;
        let scale = scaler.as_ref().map_or(1.0, GradientScaler::scale);
        terms.total.f_mul_scalar(scale)?.f_backward()?;
        if let Some(scaler) = &scaler {
            scaler.unscale(net.parameters())?;
        }
        let norm = clip_gradients(net.parameters(), 12.0)?;
        if norm.is_finite() {
            optimiser.step(net.parameters(), 3e-3)?;
        }
        if let Some(scaler) = &mut scaler {
            scaler.update(norm.is_finite());
        }
        net.parameters().zero_grad()?;
        curve.push(terms.total.f_to_kind(Kind::Double)?.f_double_value(&[])?);
    }
    Ok(curve)
}
