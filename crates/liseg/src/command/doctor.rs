//! `liseg doctor`.

use super::{Outcome, Result, Shared, print_json, progress, say};
use liseg::nn::runtime::Runtime;
use liseg::nn::tch::{Cuda, Device, Kind, Tensor};
use liseg::nn::{DeviceChoice, Precision, SegmentationNet, runtime};
use liseg::stunet::{StuNet, StuNetConfig};
use liseg::volume::Seed;
use serde_json::json;
use std::time::Instant;

/// Versions, libtorch, CUDA (or why not), threads, and a short benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Leave the benchmark out.
    #[arg(long)]
    fast: bool,
}

/// The patch of the benchmark, (z, y, x): small enough for any machine.
const PATCH: [i64; 3] = [32, 64, 64];
const STRIDES: [[usize; 3]; 5] = [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]];

/// Seconds of one forward pass and of one forward and backward pass.
struct Times {
    predict: f64,
    train: f64,
}

impl Doctor {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let facts = Runtime::inspect();
        let device = shared.device.unwrap_or(DeviceChoice::Auto).resolve()?;
        let memory = runtime::available_memory_bytes();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let benchmark = if self.fast {
            Vec::new()
        } else {
            self.benchmark(device, shared)?
        };
        if shared.json {
            let benchmark: Vec<_> = benchmark
                .iter()
                .map(|(name, t)| json!({"precision": name, "predict_s": t.predict, "train_s": t.train}))
                .collect();
            print_json(&json!({
                "liseg": env!("CARGO_PKG_VERSION"),
                "runtime": facts,
                "cores": cores,
                "available_memory_bytes": memory,
                "device": format!("{device:?}"),
                "benchmark_patch": PATCH,
                "benchmark": benchmark,
            }));
            return Ok(Outcome::Done);
        }
        say!("liseg        {}", env!("CARGO_PKG_VERSION"));
        say!("libtorch     {}", facts.libtorch);
        match &facts.cuda_unavailable {
            None => say!(
                "CUDA         {} device(s), cuDNN {}",
                facts.cuda_devices,
                yes(facts.cudnn)
            ),
            Some(reason) => say!("CUDA         off: {reason}"),
        }
        say!(
            "threads      {} of {cores} cores for each operation",
            facts.threads
        );
        say!("bf16 on CPU  {}", yes(facts.cpu_bf16));
        if let Some(bytes) = memory {
            say!(
                "memory       {:.1} GiB free",
                bytes as f64 / f64::from(1 << 30)
            );
        }
        say!("device       {device:?}, in {}", precision(device));
        for (name, t) in &benchmark {
            say!(
                "STU-Net-S    {name}: {:.3} s to predict, {:.3} s to train on a patch of 32 × 64 × 64",
                t.predict,
                t.train
            );
        }
        Ok(Outcome::Done)
    }

    fn benchmark(&self, device: Device, shared: &Shared) -> Result<Vec<(&'static str, Times)>> {
        let spinner = progress::spinner(shared, "timing STU-Net-S");
        let mut all = vec![("f32", Precision::F32)];
        if Precision::Auto.kind(device) == Kind::BFloat16 {
            all.push(("bf16", Precision::Bf16));
        }
        let times = all
            .into_iter()
            .map(|(name, precision)| Ok((name, time(device, precision)?)))
            .collect::<Result<Vec<_>>>();
        spinner.finish_and_clear();
        times
    }
}

fn time(device: Device, precision: Precision) -> liseg::nn::Result<Times> {
    let shape = StuNetConfig {
        strides: STRIDES,
        precision,
        ..StuNetConfig::small(2)
    };
    let net = StuNet::new(&shape, device, &mut Seed(1).stream("doctor", 0, 0))?;
    let [z, y, x] = PATCH;
    let images = Tensor::f_zeros([1, 1, z, y, x], (Kind::Float, device))?;
    let mut times = Times {
        predict: 0.0,
        train: 0.0,
    };
    // The first round warms up; the second counts.
    for _ in 0..2 {
        let start = Instant::now();
        let no_grad = liseg::nn::tch::no_grad_guard();
        net.forward(&images)?
            .f_sum(Kind::Float)?
            .f_double_value(&[])?;
        drop(no_grad);
        times.predict = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let loss = net.forward(&images)?.f_square()?.f_mean(Kind::Float)?;
        loss.f_backward()?;
        if let Device::Cuda(index) = device {
            Cuda::synchronize(index as i64);
        }
        times.train = start.elapsed().as_secs_f64();
    }
    Ok(times)
}

/// What `precision = "auto"` means on a device, and why.
fn precision(device: Device) -> &'static str {
    match (device, Precision::Auto.kind(device)) {
        (Device::Cuda(_), _) => "bf16 by default; fp16 with scaled losses and f32 on request",
        (_, Kind::BFloat16) => "bf16 by default, which this processor multiplies; f32 on request",
        _ => "f32 by default: this processor only emulates bf16",
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
