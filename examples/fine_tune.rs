//! Fine-tunes pretrained weights on few labels: heads of another number of classes are drawn afresh, the
//! first stage stays as it was, and the rest of the encoder learns slowly.
//!
//!     cargo run --release -p examples --example fine_tune -- small_ep4k.model
//!
//! Without an argument a network of random weights with 105 classes stands in for the published STU-Net.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

mod prepared;

use anyhow::{Context, Result, ensure};
use liseg::engine::{LayerRate, RunFolder, TrainEvent, TrainOptions, train};
use liseg::nn::{DeviceChoice, SegmentationNet, TensorMap, Weights, checkpoint};
use liseg::stunet::{Size, StuNet, StuNetConfig};
use liseg::volume::Seed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The stage that is not trained.
const FROZEN: &str = "conv_blocks_context.0.";

/// Writes a network under the parameter names of the published one.
fn stand_in(file: &Path, widths: [i64; 6]) -> Result<()> {
    let shape = StuNetConfig {
        widths,
        ..StuNetConfig::new(Size::S, 105)
    };
    let device = DeviceChoice::Cpu.resolve()?;
    let network = StuNet::new(&shape, device, &mut Seed(1).stream("weights", 0, 0))?;
    let mut tensors = TensorMap::new();
    network.parameters().save_into("", &mut tensors)?;
    Ok(checkpoint::write(file, &tensors, &BTreeMap::new())?)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut config = prepared::prepared(folder.path())?;
    let weights = match std::env::args().nth(1) {
        Some(file) => {
            config.network.widths = None;
            PathBuf::from(file)
        }
        None => {
            let file = at("pretrained.safetensors");
            stand_in(&file, [4, 8, 8, 16, 16, 16])?;
            file
        }
    };
    // Nothing in a file of weights is executed; `liseg weights inspect` prints the same.
    let pretrained = Weights::read(&weights)?;
    println!("{} parameters in {}", pretrained.count(), weights.display());

    config.network.weights = Some(weights);
    config.network.freeze = vec![FROZEN.into()];
    config.training.layer_rates = vec![LayerRate {
        prefix: "conv_blocks_context.".into(),
        factor: 0.1,
    }];
    config.training.learning_rate = 1e-3;
    let run = TrainOptions {
        folder: at("run"),
        resume: false,
    };
    let mut on_event = |event: TrainEvent<'_>| {
        if let TrainEvent::Epoch(record) = event {
            println!("epoch {}: {:?}", record.epoch, record.terms);
        }
    };
    train(&config, &run, &mut on_event, &|| false)?;

    // The frozen stage is what it was; the next one has moved.
    let trained = Weights::read(&RunFolder::open(&at("run"))?.weights()?)?;
    let moved = |prefix: &str| -> Result<f64> {
        let mut largest = 0.0f64;
        let before = pretrained.tensors.iter();
        for (name, before) in before.filter(|(name, _)| name.starts_with(prefix)) {
            // In a run, names begin with that of the network.
            let after = trained.tensors.get(&format!("network.{name}"));
            let after = after.with_context(|| format!("the run has no {name}"))?;
            let difference = after.f_sub(before)?.f_abs()?.f_max()?;
            largest = largest.max(difference.f_double_value(&[])?);
        }
        Ok(largest)
    };
    let (frozen, next) = (moved(FROZEN)?, moved("conv_blocks_context.1.")?);
    println!("largest change: {frozen} in the frozen stage, {next:.1e} in the next");
    ensure!(frozen == 0.0 && next > 0.0);
    Ok(())
}
