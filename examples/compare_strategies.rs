//! Trains two strategies on the same labels, judges both on the same patients, and asks whether the
//! difference is real.
//!
//!     cargo run --release -p examples --example compare_strategies
//!
//! `liseg experiment` does this for grids of methods, seeds and label budgets. A few steps of a tiny
//! network: it shows the calls, not which method is better.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

mod prepared;

use anyhow::Result;
use liseg::engine::evaluate::{Evaluation, evaluate};
use liseg::engine::predict::{FolderOptions, Model, find_images, predict_cases};
use liseg::engine::{RunFolder, TrainOptions, train};
use liseg::metrics::{Comparison, ComparisonSettings, Measure, Settings};
use liseg::nn::{DeviceChoice, Precision};
use liseg::ssl::{CpsConfig, StrategyConfig, SupervisedConfig};

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut config = prepared::prepared(folder.path())?;
    let device = DeviceChoice::Auto.resolve()?;
    let images = find_images(&at("dataset/imagesTs"), None)?.images;

    // The same seed draws the same first weights and labelled patches for both.
    let mut reports = Vec::new();
    for strategy in [
        StrategyConfig::Supervised(SupervisedConfig::default()),
        StrategyConfig::Cps(CpsConfig::default()),
    ] {
        let name = strategy.name();
        config.strategy = strategy;
        let run = TrainOptions {
            folder: at(name),
            resume: false,
        };
        train(&config, &run, &mut |_| {}, &|| false)?;

        let mut model = Model::of_run(&RunFolder::open(&run.folder)?, device, Precision::Auto)?;
        let masks = at(&format!("{name}-masks"));
        let options = FolderOptions::default();
        predict_cases(&mut model, &images, &masks, options, &mut |_| true)?;

        // Every reference counts; one without a mask scores as an empty mask would.
        let what = Evaluation {
            predictions: masks,
            references: at("dataset/labelsTs"),
            cases: Some(at("dataset/cases.json")),
            labels: vec![1],
            settings: Settings::default(),
        };
        reports.push((name.to_owned(), evaluate(&what, &|_, _| {})?));
    }

    let settings = ComparisonSettings {
        measures: vec![Measure::Dice, Measure::Hd95],
        ..ComparisonSettings::default()
    };
    let comparison = Comparison::of(&reports, &settings)?;
    println!("{} {}s", comparison.units.len(), comparison.unit);
    for pair in &comparison.pairs {
        let mean = &pair.mean;
        println!(
            "{}: {} − {} = {:+.3} ({:.3} to {:.3}), better in {}, worse in {}, p = {:.2}",
            pair.measure,
            pair.second,
            pair.first,
            mean.estimate,
            mean.low,
            mean.high,
            pair.better,
            pair.worse,
            pair.test.p
        );
    }
    Ok(())
}
