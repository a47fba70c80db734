//! The whole way by library calls: a dataset, a plan, training with cross pseudo supervision, and a
//! mask in the geometry of its image.
//!
//!     cargo run --release -p examples --example train_and_predict
//!
//! A few steps of a tiny network: it shows the calls, not a good mask.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use anyhow::Result;
use liseg::data::{Dataset, Fingerprint, Plan, PlanOptions, PreprocessOptions, preprocess_dataset};
use liseg::engine::predict::{FolderOptions, Model, find_images, predict_cases};
use liseg::engine::{RunConfig, RunFolder, TrainEvent, TrainOptions, train};
use liseg::nn::{DeviceChoice, Precision};
use liseg::phantom::{PhantomConfig, Phase, Resolution, write_nnunet};
use liseg::ssl::{CpsConfig, StrategyConfig};

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);

    // Three patients to train on, two of them with labels, and one held out.
    let phantom = PhantomConfig::default()
        .with_patients(3, 2, 1)
        .with_phases([Phase::Ged4])
        .with_resolution(Resolution::Tiny);
    write_nnunet(&phantom, at("dataset"))?;
    let dataset = Dataset::open(&at("dataset"))?;

    let options = PlanOptions {
        max_patch_voxels: 16 * 32 * 32,
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &options)?;
    preprocess_dataset(
        &dataset,
        &plan,
        &at("data"),
        &PreprocessOptions::default(),
        |_| {},
    )?;

    let mut config = RunConfig::new(at("data"));
    config.network.widths = Some(vec![4, 8, 8, 16, 16, 16]);
    config.strategy = StrategyConfig::Cps(CpsConfig::default());
    config.training.epochs = 2;
    config.training.iterations_per_epoch = 4;
    let run = TrainOptions {
        folder: at("run"),
        resume: false,
    };
    train(
        &config,
        &run,
        &mut |event| {
            if let TrainEvent::Epoch(record) = event {
                println!("epoch {}: {:?}", record.epoch, record.terms);
            }
        },
        &|| false,
    )?;

    let device = DeviceChoice::Auto.resolve()?;
    let mut model = Model::of_run(&RunFolder::open(&at("run"))?, device, Precision::Auto)?;
    let images = find_images(&at("dataset/imagesTs"), None)?.images;
    let outcome = predict_cases(
        &mut model,
        &images,
        &at("masks"),
        FolderOptions::default(),
        &mut |_| true,
    )?;
    println!("{} masks written", outcome.written.len());
    Ok(())
}
