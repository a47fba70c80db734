//! The same numbers on GPU and CPU.

use crate::toy;
use anyhow::{Result, ensure};
use liseg::engine::predict::{SlidingWindow, Tta};
use liseg::nn::bridge::images_to_tensor;
use liseg::nn::loss::{DeepSupervision, DiceCrossEntropy};
use liseg::nn::runtime;
use liseg::nn::tch::{Device, Kind, Tensor, no_grad_guard};
use liseg::nn::{Optimiser, OptimiserConfig, Precision, SegmentationNet, clip_gradients};
use ndarray::{Array3, Array4};

/// The largest difference as a share of the largest number.
fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let host = |t: &Tensor| t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
    let (a, b) = (host(a)?, host(b)?);
    let largest = |t: &Tensor| t.f_abs()?.f_max()?.f_double_value(&[]);
    Ok(largest(&a.f_sub(&b)?)? / largest(&b)?.max(1e-12))
}

/// The outcome of `call` with all 23 bits of mantissa in f32.
fn exactly<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    runtime::allow_tf32(false)?;
    let outcome = call();
    runtime::allow_tf32(true)?;
    outcome
}

/// What a network makes of the fixed problem.
struct Outcome {
    /// Of all scales.
    logits: Vec<Tensor>,
    /// Of all weights that have one.
    gradients: Vec<Tensor>,
}

fn outcome(net: &dyn SegmentationNet) -> Result<Outcome> {
    let (image, target) = toy::problem(net.parameters().device())?;
    let scales = net.forward_scales(&image)?;
    let loss = DeepSupervision::new(DiceCrossEntropy::default()).terms(&scales, &target)?;
    loss.total.f_backward()?;
    Ok(Outcome {
        logits: scales.iter().map(Tensor::detach).collect(),
        gradients: gradients(net)?,
    })
}

fn gradients(net: &dyn SegmentationNet) -> Result<Vec<Tensor>> {
    let all = net.parameters().iter().map(|(_, weight)| weight.f_grad());
    let all = all.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(Tensor::defined).collect())
}

fn worst(a: &[Tensor], b: &[Tensor]) -> Result<f64> {
    ensure!(
        a.len() == b.len(),
        "{} tensors against {}",
        a.len(),
        b.len()
    );
    let mut worst = 0.0f64;
    for (a, b) in a.iter().zip(b) {
        worst = worst.max(difference(a, b)?);
    }
    Ok(worst)
}

/// Biases in front of a norm have gradients of exactly zero in theory and of rounding in practice, so
/// the bound is on the largest number of each tensor and generous; a wrong kernel is off by its whole.
pub(crate) fn logits_and_gradients(device: Device) -> Result<String> {
    let mut found = Vec::new();
    for (name, network) in [("STU-Net", toy::network as toy::Make), ("U-Net", toy::unet)] {
        let on = |device| outcome(network(device, Precision::F32, false)?.as_ref());
        let (here, there) = (exactly(|| on(device))?, on(Device::Cpu)?);
        let logits = worst(&here.logits, &there.logits)?;
        ensure!(
            logits < 1e-3,
            "{name}: logits differ by {logits:.1e} of their largest"
        );
        let mut gradients = Vec::new();
        ensure!(
            here.gradients.len() == there.gradients.len(),
            "{name}: gradients are missing"
        );
        for (a, b) in here.gradients.iter().zip(&there.gradients) {
            // Nothing but rounding is left below this.
            if b.f_abs()?.f_max()?.f_double_value(&[])? > 1e-5 {
                gradients.push(difference(a, b)?);
            }
        }
        let gradient = gradients.iter().copied().fold(0.0, f64::max);
        ensure!(
            gradient < 1e-2,
            "{name}: gradients differ by {gradient:.1e} of their largest"
        );
        found.push(format!(
            "{name}: logits differ by {logits:.1e}, {} gradients by {gradient:.1e} of their largest",
            gradients.len()
        ));
    }
    Ok(found.join("\n"))
}

/// Predictions in narrow formats beside those in f32, where no gradient is recorded and maps are written over.
pub(crate) fn narrow_predictions(device: Device) -> Result<String> {
    let (image, _) = toy::problem(device)?;
    let logits = |precision| -> Result<Tensor> {
        let _guard = no_grad_guard();
        Ok(toy::network(device, precision, false)?.forward(&image)?)
    };
    let wide = exactly(|| logits(Precision::F32))?;
    let mut found = Vec::new();
    for precision in [Precision::Bf16, Precision::Fp16] {
        if precision.check(device).is_err() {
            continue;
        }
        let off = difference(&logits(precision)?, &wide)?;
        ensure!(
            off < 1e-1,
            "{precision:?} is off by {off:.1e} of the largest logit"
        );
        found.push(format!("{precision:?} differs by {off:.1e}"));
    }
    Ok(found.join(", "))
}

/// Operations on lists of tensors: norms and clipping, clearing, averages of teachers.
pub(crate) fn lists(device: Device) -> Result<String> {
    let run = |device| -> Result<(f64, Vec<Tensor>, Vec<Tensor>)> {
        let net = toy::network(device, Precision::F32, false)?;
        let teacher = toy::network(device, Precision::F32, false)?;
        outcome(net.as_ref())?;
        let norm = clip_gradients(net.parameters(), 0.01)?;
        let clipped: Vec<Tensor> = gradients(net.as_ref())?.iter().map(Tensor::copy).collect();
        Optimiser::new(OptimiserConfig::sgd(), net.parameters())?.step(net.parameters(), 100.0)?;
        let before = weights(teacher.as_ref())?;
        teacher.parameters().follow(net.parameters(), 0.75)?;
        net.parameters().zero_grad()?;
        let left = gradients(net.as_ref())?.len();
        ensure!(left == 0, "{left} gradients were not cleared");
        let after = weights(teacher.as_ref())?;
        let moves = after.iter().zip(&before).map(|(a, b)| a.f_sub(b));
        Ok((norm.0, clipped, moves.collect::<Result<_, _>>()?))
    };
    let (here, there) = (exactly(|| run(device))?, run(Device::Cpu)?);
    let norm = (here.0 / there.0 - 1.0).abs();
    ensure!(norm < 1e-3, "norms are {} and {}", here.0, there.0);
    // All gradients together have a norm of 0.01.
    let (clipped, _) = apart(&here.1, &there.1)?;
    ensure!(clipped < 1e-4, "clipped gradients differ by {clipped:.1e}");
    // Of the furthest move of all: what biases in front of a norm do is rounding.
    let (apart, furthest) = apart(&here.2, &there.2)?;
    let moves = apart / furthest;
    ensure!(
        moves < 1e-3,
        "averages move by {furthest:.1e} at most and are {apart:.1e} apart"
    );
    Ok(format!(
        "norms differ by {norm:.1e}, clipped gradients by {clipped:.1e}, moves of averages by {moves:.1e} of the furthest"
    ))
}

/// Copies of a network's weights, on the CPU.
fn weights(net: &dyn SegmentationNet) -> Result<Vec<Tensor>> {
    let copy = |w: &Tensor| Ok(w.f_detach()?.f_to_device(Device::Cpu)?.f_detach_copy()?);
    net.parameters().iter().map(|(_, w)| copy(w)).collect()
}

/// How far two lists of tensors are apart where it is most, and the largest number of the second.
fn apart(a: &[Tensor], b: &[Tensor]) -> Result<(f64, f64)> {
    let largest = |t: &Tensor| t.f_abs()?.f_max()?.f_double_value(&[]);
    ensure!(
        a.len() == b.len(),
        "{} tensors against {}",
        a.len(),
        b.len()
    );
    let (mut apart, mut most) = (0.0f64, 0.0f64);
    for (a, b) in a.iter().zip(b) {
        apart = apart.max(largest(&a.f_to_device(Device::Cpu)?.f_sub(b)?)?);
        most = most.max(largest(b)?);
    }
    Ok((apart, most))
}

pub(crate) fn optimiser_steps(device: Device) -> Result<String> {
    let mut found = Vec::new();
    for config in [
        OptimiserConfig::sgd(),
        OptimiserConfig::adam(),
        OptimiserConfig::adamw(),
    ] {
        let run = |device| -> Result<Vec<Tensor>> {
            let net = toy::network(device, Precision::F32, false)?;
            let mut optimiser = Optimiser::new(config, net.parameters())?;
            for _ in 0..3 {
                let parameters = net.parameters();
                let sums = parameters
                    .iter()
                    .map(|(_, w)| w.f_square()?.f_sum(Kind::Float));
                let sums = sums.collect::<Result<Vec<_>, _>>()?;
                Tensor::f_stack(&sums, 0)?
                    .f_sum(Kind::Float)?
                    .f_backward()?;
                optimiser.step(parameters, 1e-2)?;
                parameters.zero_grad()?;
            }
            Ok(net.parameters().iter().map(|(_, w)| w.detach()).collect())
        };
        let off = worst(&run(device)?, &run(Device::Cpu)?)?;
        ensure!(off < 1e-5, "{config:?} differs by {off:.1e}");
        found.push(format!("{off:.1e}"));
    }
    Ok(format!(
        "SGD, Adam and AdamW differ by {}",
        found.join(", ")
    ))
}

pub(crate) fn copies(device: Device) -> Result<String> {
    let image = Array4::from_shape_fn((2, 16, 16, 16), |(c, z, y, x)| {
        (c * 4096 + z * 256 + y * 16 + x) as f32
    });
    for _ in 0..8 {
        // The next copy must not overwrite what the last one still reads.
        let there = images_to_tensor(&[image.view()], device)?;
        let expected = images_to_tensor(&[image.view()], Device::Cpu)?;
        ensure!(
            there.f_to_device(Device::Cpu)?.f_equal(&expected)?,
            "a copy differs"
        );
    }
    Ok("8 copies are exact".into())
}

pub(crate) fn checkpointing(device: Device) -> Result<String> {
    let with = |again| outcome(toy::network(device, Precision::F32, again)?.as_ref());
    let (again, kept) = exactly(|| Ok((with(true)?, with(false)?)))?;
    let logits = worst(&again.logits, &kept.logits)?;
    // Biases in front of a norm have gradients of nothing but rounding: all gradients are measured by
    // the largest of them.
    let largest = |t: &Tensor| t.f_abs()?.f_max()?.f_double_value(&[]);
    let (mut off, mut scale) = (0.0f64, 0.0f64);
    ensure!(
        again.gradients.len() == kept.gradients.len(),
        "gradients are missing"
    );
    for (a, b) in again.gradients.iter().zip(&kept.gradients) {
        off = off.max(largest(&a.f_sub(b)?)?);
        scale = scale.max(largest(b)?);
    }
    let gradients = off / scale;
    // Gradients of maps that are used twice may add up in another order, and some kernels of cuDNN have none that is fixed.
    let allowed = if device == Device::Cpu { 1e-4 } else { 1e-3 };
    ensure!(logits <= allowed, "logits are off by {logits:.1e}");
    ensure!(gradients <= allowed, "gradients are off by {gradients:.1e}");
    Ok(format!(
        "logits differ by {logits:.1e}, gradients by {gradients:.1e} of the largest"
    ))
}

const STEPS: usize = 40;

fn same_curve(device: Device, precision: Precision) -> Result<String> {
    let narrow = toy::losses(device, precision, STEPS)?;
    let wide = exactly(|| toy::losses(device, Precision::F32, STEPS))?;
    let mean = |curve: &[f64]| curve[STEPS - 5..].iter().sum::<f64>() / 5.0;
    let (a, b, first) = (mean(&narrow), mean(&wide), wide[0]);
    ensure!(b < first - 0.5, "f32 did not learn: {first:.3} to {b:.3}");
    // As a share of what was learnt.
    let off = (a - b).abs() / (first - b);
    ensure!(
        off < 0.05,
        "{a:.4} against {b:.4} in f32 after {STEPS} steps from {first:.4}"
    );
    Ok(format!(
        "from {first:.3} to {a:.4}, in f32 to {b:.4}, in {STEPS} steps"
    ))
}

pub(crate) fn tf32_curve(device: Device) -> Result<String> {
    same_curve(device, Precision::F32)
}

pub(crate) fn bf16_curve(device: Device) -> Result<String> {
    same_curve(device, Precision::Bf16)
}

pub(crate) fn fp16_curve(device: Device) -> Result<String> {
    same_curve(device, Precision::Fp16)
}

pub(crate) fn sliding_window(device: Device) -> Result<String> {
    let image = Array3::from_shape_fn((20, 35, 25), |(z, y, x)| {
        (0.3 * z as f32).sin() + (0.2 * (y + x) as f32).cos()
    });
    let window = SlidingWindow::new([16; 3], 0.5, Tta::None)?;
    let run = |device| -> Result<Array4<f32>> {
        let net = toy::network(device, Precision::F32, false)?;
        let networks: [&dyn SegmentationNet; 1] = [net.as_ref()];
        let found = window.predict(&networks, image.view(), &mut || true)?;
        found.ok_or_else(|| anyhow::anyhow!("it stopped"))
    };
    let (here, there) = (exactly(|| run(device))?, run(Device::Cpu)?);
    let off = here
        .iter()
        .zip(&there)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    ensure!(off < 1e-3, "logits differ by {off:.1e}");
    Ok(format!(
        "logits of {:?} voxels differ by at most {off:.1e}",
        image.dim()
    ))
}
