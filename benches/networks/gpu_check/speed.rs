//! Seconds and memory.

use anyhow::Result;
use liseg::engine::predict::{SlidingWindow, Tta};
use liseg::nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg::nn::tch::{Cuda, Device, Kind, Tensor, no_grad_guard};
use liseg::nn::{Optimiser, OptimiserConfig, Precision, SegmentationNet};
use liseg::nn::{clip_gradients, runtime};
use liseg::ssl::{Batch, CpsConfig, Labelled, Progress, StepContext, StrategyConfig, Unlabelled};
use liseg::stunet::{Size, StuNet, StuNetConfig};
use liseg::volume::Seed;
use ndarray::Array3;
use std::time::Instant;

/// Repetitions after one that warms up.
const REPEAT: usize = 5;

fn network(
    size: Size,
    device: Device,
    precision: Precision,
    checkpointing: bool,
) -> Result<Box<dyn SegmentationNet>> {
    let config = StuNetConfig {
        precision,
        checkpointing,
        ..StuNetConfig::new(size, 2)
    };
    let net = StuNet::new(&config, device, &mut Seed(1).stream("weights", 0, 0))?;
    Ok(Box::new(net))
}

/// The fastest of several calls in seconds, and the peak of memory in GB.
fn timed(device: Device, mut call: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    runtime::reset_cuda_memory(device)?;
    let repeat = if device == Device::Cpu { 1 } else { REPEAT };
    let mut fastest = f64::INFINITY;
    for round in 0..=repeat {
        let start = Instant::now();
        call()?;
        if let Device::Cuda(index) = device {
            Cuda::synchronize(index as i64);
        }
        if round > 0 {
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
    }
    let peak = runtime::cuda_memory_bytes(device).map(|(_, peak)| peak);
    let peak = peak.or_else(runtime::peak_memory_bytes).unwrap_or(0);
    Ok((fastest, peak as f64 / 1e9))
}

/// A patch of 128³ on a GPU, a small one on a CPU.
fn side(device: Device) -> i64 {
    if device == Device::Cpu { 32 } else { 128 }
}

/// Without bf16 where it is only emulated.
fn precisions(device: Device) -> impl Iterator<Item = Precision> {
    let all = [Precision::F32, Precision::Bf16].into_iter();
    all.filter(move |precision| !precision.is_emulated(device))
}

fn images(device: Device, batch: i64) -> Result<Tensor> {
    let side = side(device);
    Ok(Tensor::f_randn(
        [batch, 1, side, side, side],
        (Kind::Float, device),
    )?)
}

fn labels(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_select(1, 0)?.f_gt(0.5)?.f_to_kind(Kind::Int64)?)
}

pub(crate) fn prediction(device: Device) -> Result<String> {
    let sizes: &[Size] = match device {
        Device::Cpu => &[Size::S],
        _ => &[Size::S, Size::B, Size::L],
    };
    let mut lines = Vec::new();
    for &size in sizes {
        for precision in precisions(device) {
            let net = network(size, device, precision, false)?;
            let images = images(device, 1)?;
            let (seconds, peak) = timed(device, || {
                let _guard = no_grad_guard();
                net.forward(&images)?
                    .f_sum(Kind::Float)?
                    .f_double_value(&[])?;
                Ok(())
            })?;
            let side = side(device);
            lines.push(format!(
                "{size} {precision:?} {side}³: {seconds:.4} s, {peak:.2} GB"
            ));
        }
    }
    Ok(lines.join("\n"))
}

/// An image of LiQA's median size in tiles that overlap by half, blending and copies included.
pub(crate) fn sliding_window(device: Device) -> Result<String> {
    let (shape, tile) = match device {
        Device::Cpu => ((32, 48, 48), [32; 3]),
        _ => ((64, 256, 320), [64, 128, 128]),
    };
    let (z, y, x) = shape;
    let image = Array3::from_shape_fn(shape, |(z, y, x)| ((z * y + x) as f32).sin());
    let window = SlidingWindow::new(tile, 0.5, Tta::None)?;
    let mut lines = Vec::new();
    for precision in precisions(device) {
        let net = network(Size::S, device, precision, false)?;
        let networks: [&dyn SegmentationNet; 1] = [net.as_ref()];
        let (seconds, peak) = timed(device, || {
            window.predict(&networks, image.view(), &mut || true)?;
            Ok(())
        })?;
        lines.push(format!(
            "STU-Net-S {precision:?}, {z}×{y}×{x} in tiles of {tile:?}: {seconds:.4} s, {peak:.2} GB"
        ));
    }
    Ok(lines.join("\n"))
}

pub(crate) fn training(device: Device) -> Result<String> {
    let mut lines = Vec::new();
    for size in [Size::S, Size::B, Size::L] {
        for precision in [Precision::F32, Precision::Bf16] {
            for checkpointing in [false, true] {
                let found = step(size, device, precision, checkpointing);
                let kept = if checkpointing {
                    "checkpointed"
                } else {
                    "kept"
                };
                lines.push(match found {
                    Ok((seconds, peak)) => {
                        format!("{size} {precision:?} {kept}: {seconds:.4} s, {peak:.2} GB")
                    }
                    // A small GPU cannot hold every one of them.
                    Err(error) if format!("{error:#}").contains("out of memory") => {
                        format!("{size} {precision:?} {kept}: does not fit into this GPU's memory")
                    }
                    Err(error) => return Err(error),
                });
            }
        }
    }
    Ok(lines.join("\n"))
}

fn step(
    size: Size,
    device: Device,
    precision: Precision,
    checkpointing: bool,
) -> Result<(f64, f64)> {
    let net = network(size, device, precision, checkpointing)?;
    let images = images(device, 2)?;
    let target = Target {
        label: labels(&images)?,
        valid: None,
    };
    let loss = DeepSupervision::new(DiceCrossEntropy::default());
    let mut optimiser = Optimiser::new(OptimiserConfig::adamw(), net.parameters())?;
    timed(device, || {
        let terms = loss.terms(&net.forward_scales(&images)?, &target)?;
        terms.total.f_backward()?;
        clip_gradients(net.parameters(), 12.0)?;
        optimiser.step(net.parameters(), 1e-4)?;
        Ok(net.parameters().zero_grad()?)
    })
}

pub(crate) fn cross_pseudo_supervision(device: Device) -> Result<String> {
    let config = StrategyConfig::Cps(CpsConfig {
        labelled: 1,
        unlabelled: 1,
        ..CpsConfig::default()
    });
    let mut make = |name: &str| -> liseg::nn::Result<Box<dyn SegmentationNet>> {
        let shape = StuNetConfig::small(2);
        let mut rng = Seed(1).stream(&format!("weights/{name}"), 0, 0);
        Ok(Box::new(StuNet::new(&shape, device, &mut rng)?))
    };
    let mut strategy = config.build(OptimiserConfig::adamw(), &mut make)?;
    let (image, unlabelled) = (images(device, 1)?, images(device, 1)?);
    let batch = Batch {
        labelled: Some(Labelled {
            label: labels(&image)?,
            image,
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: unlabelled,
            strong: Vec::new(),
            valid: None,
        }),
    };
    let (seconds, peak) = timed(device, || {
        let progress = Progress {
            iteration: 50,
            iterations: 100,
        };
        let mut context = StepContext::new(progress, 1);
        strategy.step(&batch, &mut context)?;
        strategy.optimise(1e-4, 12.0)?;
        Ok(())
    })?;
    let side = side(device);
    Ok(format!(
        "two STU-Net-S, 1 + 1 patches of {side}³: {seconds:.4} s, {peak:.2} GB"
    ))
}
