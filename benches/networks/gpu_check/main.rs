//! Checks LiSeg on a GPU against the CPU, and times it there.
//!
//!     cargo xtask gpu-check
//!
//! One program with everything in it: build it here, carry it to a machine with a GPU, run it with that
//! machine's libtorch 2.11.0 (`LD_LIBRARY_PATH=…/torch/lib ./gpu_check`). Where no GPU is found it says so,
//! runs on the CPU what makes sense there, and lists what was not run; with `--require` that is a failure.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

mod agreement;
mod speed;
mod toy;

use anyhow::{Result, bail};
use liseg::nn::runtime;
use liseg::nn::tch::Device;

/// One line of the list.
struct Check {
    name: &'static str,
    /// Whether it says something without a GPU.
    on_cpu: bool,
    /// What it found, in words; an error when it failed.
    run: fn(Device) -> Result<String>,
}

const CHECKS: [Check; 14] = [
    Check {
        name: "logits and gradients agree with the CPU's, f32 without TF32",
        on_cpu: false,
        run: agreement::logits_and_gradients,
    },
    Check {
        name: "optimiser steps agree with the CPU's",
        on_cpu: false,
        run: agreement::optimiser_steps,
    },
    Check {
        name: "clipping, clearing and averages of teachers agree with the CPU's",
        on_cpu: false,
        run: agreement::lists,
    },
    Check {
        name: "predictions in bf16 and fp16 are those of f32",
        on_cpu: true,
        run: agreement::narrow_predictions,
    },
    Check {
        name: "copies through page-locked memory change nothing",
        on_cpu: true,
        run: agreement::copies,
    },
    Check {
        name: "checkpointing changes no gradient",
        on_cpu: true,
        run: agreement::checkpointing,
    },
    Check {
        name: "f32 with TF32 learns as f32 does",
        on_cpu: false,
        run: agreement::tf32_curve,
    },
    Check {
        name: "bf16 learns as f32 does",
        on_cpu: true,
        run: agreement::bf16_curve,
    },
    Check {
        name: "fp16 with scaled losses learns as f32 does",
        on_cpu: false,
        run: agreement::fp16_curve,
    },
    Check {
        name: "sliding-window prediction agrees with the CPU's, without TF32",
        on_cpu: true,
        run: agreement::sliding_window,
    },
    Check {
        name: "prediction of a patch: seconds, memory",
        on_cpu: true,
        run: speed::prediction,
    },
    Check {
        name: "sliding-window prediction of a volume: seconds, memory",
        on_cpu: true,
        run: speed::sliding_window,
    },
    Check {
        name: "training steps of S, B and L at 2 × 1 × 128³: seconds, memory",
        on_cpu: false,
        run: speed::training,
    },
    Check {
        name: "a step of cross pseudo supervision: seconds, memory",
        on_cpu: true,
        run: speed::cross_pseudo_supervision,
    },
];

fn main() -> Result<()> {
    let require = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--require") => true,
        Some(other) => bail!("`{other}` is not known; the only option is --require"),
    };
    runtime::keep_large_blocks();
    runtime::reuse_tensor_memory();
    let device = match runtime::cuda_devices() {
        Ok(count) => {
            println!("{count} CUDA device(s); checking cuda:0");
            Device::Cuda(0)
        }
        Err(reason) => {
            println!("NO GPU IS USED: {reason}.");
            println!("What follows ran on the CPU and says nothing about GPUs.");
            Device::Cpu
        }
    };
    let (mut passed, mut failed, mut left_out) = (0, Vec::new(), Vec::new());
    for check in &CHECKS {
        if device == Device::Cpu && !check.on_cpu {
            left_out.push(check.name);
            continue;
        }
        match (check.run)(device) {
            Ok(found) => {
                passed += 1;
                println!("\npassed   {}\n{}", check.name, indented(&found));
            }
            Err(error) => {
                failed.push(check.name);
                println!(
                    "\nFAILED   {}\n{}",
                    check.name,
                    indented(&format!("{error:#}"))
                );
            }
        }
    }
    for name in &left_out {
        println!("\nnot run  {name} (needs a GPU)");
    }
    let place = if device == Device::Cpu {
        "on the CPU"
    } else {
        "on the GPU"
    };
    println!(
        "\n{passed} of {} checks passed {place}, {} failed, {} not run",
        CHECKS.len(),
        failed.len(),
        left_out.len()
    );
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    if require && device == Device::Cpu {
        bail!("a GPU was required and none is used");
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("         {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
