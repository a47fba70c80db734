//! How long a network takes to predict and to train, and how much memory.
//!
//!     cargo run --release -p network-benches --bin network_speed -- --size S --patch 128,128,128
//!
//! Prints one JSON object. Without options it times a small patch, to be done in seconds.
#![allow(clippy::print_stdout, reason = "a program speaks to the terminal")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use liseg::nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg::nn::tch::{Cuda, Device, Kind, Tensor, no_grad_guard};
use liseg::nn::{DeviceChoice, Optimiser, OptimiserConfig, Precision};
use liseg::nn::{TensorMap, Transfer, Weights, checkpoint, clip_gradients, runtime, transfer};
use liseg::stunet::{Architecture, Size, StuNetConfig, UnetConfig};
use liseg::volume::{Seed, Spacing};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Options {
    /// STU-Net's size S, B, L or H, or U for the plain U-Net.
    #[arg(long, default_value = "S")]
    size: String,
    /// Voxels along z, y, x.
    #[arg(long, default_value = "32,64,64", value_delimiter = ',')]
    patch: Vec<i64>,
    /// Samples of a step.
    #[arg(long, default_value_t = 1)]
    batch: i64,
    /// Output classes.
    #[arg(long, default_value_t = 2)]
    classes: i64,
    /// auto, f32, bf16 or fp16.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of an operation on the CPU.
    #[arg(long)]
    threads: Option<usize>,
    /// predict, train, or both.
    #[arg(long, default_value = "both")]
    what: String,
    /// Timed repetitions after one that warms up; 0 times that one.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Compute maps again in the backward pass instead of keeping them.
    #[arg(long)]
    checkpointing: bool,
    /// Weights to load first.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Write the network's weights as safetensors, and time nothing.
    #[arg(long)]
    save: Option<PathBuf>,
}

fn main() -> Result<()> {
    let o = Options::parse();
    runtime::keep_large_blocks();
    runtime::reuse_tensor_memory();
    if let Some(threads) = o.threads {
        runtime::set_threads(threads);
    }
    let device = o.device.parse::<DeviceChoice>()?.resolve()?;
    let precision: Precision = match o.precision.as_str() {
        "auto" => Precision::Auto,
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "fp16" => Precision::Fp16,
        other => bail!("{other}: expected auto, f32, bf16 or fp16"),
    };
    precision.check(device)?;
    let &[z, y, x] = o.patch.as_slice() else {
        bail!("the patch needs three sides, z,y,x");
    };
    let mut net = shape(&o)?
        .with_precision(precision)
        .build(device, &mut Seed(1).stream("weights", 0, 0))?;
    if let Some(file) = &o.save {
        let mut tensors = TensorMap::new();
        net.parameters().save_into("", &mut tensors)?;
        return Ok(checkpoint::write(file, &tensors, &BTreeMap::new())?);
    }
    let start = Instant::now();
    if let Some(file) = &o.weights {
        transfer(
            net.as_mut(),
            Weights::open(file)?.tensors,
            Transfer::default(),
        )?;
    }
    let loading = start.elapsed().as_secs_f64();
    let images = Tensor::f_randn([o.batch, 1, z, y, x], (Kind::Float, device))?;
    let count = net.parameters().count();
    let mut found = format!("{{\"parameters\": {count}, \"load_s\": {loading:.2}");
    if o.what != "train" {
        let seconds = best(o.repeat, device, || {
            let _guard = no_grad_guard();
            net.forward(&images)?
                .f_sum(Kind::Float)?
                .f_double_value(&[])?;
            Ok(0.0)
        })?;
        found += &format!(", \"predict_s\": {:.4}", seconds.whole);
    }
    if o.what != "predict" {
        let label = images.f_select(1, 0)?.f_gt(0.5)?.f_to_kind(Kind::Int64)?;
        // As the trainer does: in bf16 on a CPU one sample at a time, otherwise the batch as a whole.
        let narrow = precision.kind(device) == Kind::BFloat16;
        let at_once = if device == Device::Cpu && narrow {
            1
        } else {
            o.batch
        };
        let loss = DeepSupervision::new(DiceCrossEntropy::default());
        let mut optimiser = Optimiser::new(OptimiserConfig::adamw(), net.parameters())?;
        let seconds = best(o.repeat, device, || {
            for first in (0..o.batch).step_by(at_once.max(1) as usize) {
                let count = at_once.min(o.batch - first);
                let target = Target {
                    label: label.f_narrow(0, first, count)?,
                    valid: None,
                };
                let scales = net.forward_scales(&images.f_narrow(0, first, count)?)?;
                let share = count as f64 / o.batch as f64;
                let total = loss.terms(&scales, &target)?.total;
                total.f_mul_scalar(share)?.f_backward()?;
            }
            synchronize(device);
            let start = Instant::now();
            clip_gradients(net.parameters(), 12.0)?;
            optimiser.step(net.parameters(), 1e-4)?;
            net.parameters().zero_grad()?;
            synchronize(device);
            Ok(start.elapsed().as_secs_f64())
        })?;
        found += &format!(
            ", \"train_s\": {:.4}, \"of_that_optimiser_s\": {:.4}, \"train_mean_s\": {:.4}",
            seconds.whole, seconds.part, seconds.mean
        );
        // The losses alone, on logits that are given: what a step spends on them, forward and backward.
        let scales = {
            let _guard = no_grad_guard();
            net.forward_scales(&images)?
        };
        let target = Target { label, valid: None };
        let seconds = best(o.repeat, device, || {
            let scales: Vec<_> = scales
                .iter()
                .map(|s| s.detach().set_requires_grad(true))
                .collect();
            loss.terms(&scales, &target)?.total.f_backward()?;
            Ok(0.0)
        })?;
        found += &format!(", \"of_that_losses_s\": {:.4}", seconds.whole);
    }
    let peak = match runtime::cuda_memory_bytes(device) {
        Some((_, peak)) => peak,
        None => runtime::peak_memory_bytes().context("this system does not tell peak memory")?,
    };
    println!("{found}, \"peak_gb\": {:.3}}}", peak as f64 / 1e9);
    Ok(())
}

fn shape(o: &Options) -> Result<Architecture> {
    let size = match o.size.as_str() {
        "S" => Size::S,
        "B" => Size::B,
        "L" => Size::L,
        "H" => Size::H,
        "U" => {
            let config =
                UnetConfig::for_grid(Spacing::new(1.0, 1.0, 1.0)?, &[[2; 3]; 5], o.classes);
            let checkpointing = o.checkpointing;
            return Ok(UnetConfig {
                checkpointing,
                ..config
            }
            .into());
        }
        other => bail!("{other}: expected S, B, L, H or U"),
    };
    let checkpointing = o.checkpointing;
    Ok(StuNetConfig {
        checkpointing,
        ..StuNetConfig::new(size, o.classes)
    }
    .into())
}

/// Seconds of the fastest repetition, of the part of it that the call itself timed, and of the mean one.
struct Seconds {
    whole: f64,
    part: f64,
    mean: f64,
}

fn best(repeat: usize, device: Device, mut call: impl FnMut() -> Result<f64>) -> Result<Seconds> {
    let mut timed: Vec<(f64, f64)> = Vec::new();
    for round in 0..=repeat {
        synchronize(device);
        let start = Instant::now();
        let part = call()?;
        synchronize(device);
        // The first round warms up, unless it is the only one.
        if round > 0 || repeat == 0 {
            timed.push((start.elapsed().as_secs_f64(), part));
        }
    }
    let fastest = timed.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let &(whole, part) = fastest.context("nothing was timed")?;
    let mean = timed.iter().map(|(whole, _)| whole).sum::<f64>() / timed.len() as f64;
    Ok(Seconds { whole, part, mean })
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}
