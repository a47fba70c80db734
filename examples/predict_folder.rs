//! Segments a folder of images with a model in one file: memory is foretold, each mask appears when it is
//! complete, and a second call goes on where the first ended.
//!
//!     cargo run --release -p examples --example predict_folder -- model.liseg images masks
//!
//! Without arguments it trains a tiny model for a few steps first.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

mod prepared;

use anyhow::{Result, bail, ensure};
use liseg::engine::predict::{
    FolderOptions, Model, Postprocessing, PredictEvent, find_images, gibibytes, predict_cases,
    write_bundle,
};
use liseg::engine::{TrainOptions, train};
use liseg::nn::{DeviceChoice, Precision};
use std::path::{Path, PathBuf};

/// A model and a folder of images, below `folder`.
fn made(folder: &Path) -> Result<[PathBuf; 3]> {
    let config = prepared::prepared(folder)?;
    let run = TrainOptions {
        folder: folder.join("run"),
        resume: false,
    };
    train(&config, &run, &mut |_| {}, &|| false)?;
    let model = folder.join("model.liseg");
    let digest = write_bundle(&[run.folder], &model)?;
    println!("{}: {digest}", model.display());
    Ok([model, folder.join("dataset/imagesTs"), folder.join("masks")])
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let given: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [model, input, output] = match given.as_slice() {
        [] => made(folder.path())?,
        [model, input, output] => [model.clone(), input.clone(), output.clone()],
        _ => bail!("expected MODEL INPUT OUTPUT, or nothing"),
    };
    let device = DeviceChoice::Auto.resolve()?;
    // A run's folder or a checkpoint will do as well.
    let mut model = Model::open(&model, device, Precision::Auto)?;
    model.postprocessing = Postprocessing::of(true, true, None);
    // A file, a folder, a folder of patients or a cases.json.
    let images = find_images(&input, Some(&output))?.images;
    let options = FolderOptions {
        resume: true,
        uncertainty: true,
        max_memory: Some(4 << 30),
        ..FolderOptions::default()
    };

    let mut stop_after_first = |event: PredictEvent<'_>| match event {
        PredictEvent::Planned(plan) => {
            println!("at most {}", gibibytes(plan.peak));
            true
        }
        PredictEvent::Finished { .. } => false,
        _ => true,
    };
    let first = predict_cases(&mut model, &images, &output, options, &mut stop_after_first)?;
    println!(
        "{} written, then stopped: {}",
        first.written.len(),
        first.stopped
    );

    let mut say = |event: PredictEvent<'_>| {
        match event {
            PredictEvent::Skipped { image } => println!("{}: there", image.display()),
            PredictEvent::Finished { image, result } => {
                let ml = result.foreground_ml;
                println!("{}: {ml:.0} ml", image.display());
                for cause in &result.alarm {
                    println!("  nothing found: {cause}");
                }
            }
            PredictEvent::Failed { image, error } => println!("{}: {error}", image.display()),
            _ => {}
        }
        true
    };
    let second = predict_cases(&mut model, &images, &output, options, &mut say)?;
    ensure!(second.failed.is_empty() && !second.skipped.is_empty());
    ensure!(second.skipped.len() + second.written.len() == images.len());
    Ok(())
}
