//! `liseg train`.

use super::{Failure, Outcome, Result, Shared, interrupt, print_json, progress, say};
use indicatif::ProgressBar;
use liseg::engine::{
    EpochRecord, RunConfig, RunFolder, TrainEvent, TrainOptions, TrainOutcome, train,
};
use liseg::volume::Seed;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Train with any strategy; Ctrl-C saves and stops.
///
/// The config file says everything; `examples/configs` has some to start from. A run is a folder:
/// config.toml, manifest.json, metrics.jsonl (one line per epoch), checkpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct Train {
    /// The config, a TOML file.
    config: PathBuf,
    /// Folder for the run; `runs/<config's name>` when absent.
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Change a setting of the config, as in --set training.epochs=20; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Go on with the run in the folder from its last checkpoint.
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let mut config = RunConfig::read(&self.config, &self.settings)
            .map_err(|e| Failure::usage(super::failure::chain(&e)))?;
        apply_shared(&mut config, shared);
        let name = self.config.file_stem().unwrap_or("run".as_ref());
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| Path::new("runs").join(name));
        let outcome = train_with_progress(&config, &folder, self.resume, shared)?;
        let iterations = config.iterations();
        if shared.json {
            let stopped = match outcome {
                TrainOutcome::Finished => None,
                TrainOutcome::Stopped { iteration } => Some(iteration),
            };
            let last = RunFolder::open(&folder)?.metrics()?.pop();
            print_json(&json!({"run": folder, "stopped_at": stopped, "last_epoch": last}));
        } else {
            match outcome {
                TrainOutcome::Finished => say!("done: {}", folder.display()),
                TrainOutcome::Stopped { iteration } => say!(
                    "stopped after step {iteration} of {iterations}; go on with: liseg train {} --out {} --resume",
                    self.config.display(),
                    folder.display()
                ),
            }
        }
        Ok(match outcome {
            TrainOutcome::Finished => Outcome::Done,
            TrainOutcome::Stopped { .. } => Outcome::Partly,
        })
    }
}

/// The options of every verb go before the config.
pub(crate) fn apply_shared(config: &mut RunConfig, shared: &Shared) {
    if let Some(device) = shared.device {
        config.device = device;
    }
    if let Some(seed) = shared.seed {
        config.seed = Seed(seed);
    }
}

/// Trains with a bar that counts steps and a line for every epoch.
pub(crate) fn train_with_progress(
    config: &RunConfig,
    folder: &Path,
    resume: bool,
    shared: &Shared,
) -> Result<TrainOutcome> {
    interrupt::listen();
    let bar = progress::bar(shared, config.iterations(), config.strategy.name());
    let options = TrainOptions {
        folder: folder.to_owned(),
        resume,
    };
    if let Ok(device) = config.device.resolve() {
        progress::warn_of_emulation(config.precision, device);
    }
    let per_epoch = config.training.iterations_per_epoch;
    let mut hear = |event: TrainEvent<'_>| tell(&event, per_epoch, &bar, shared);
    let outcome = train(config, &options, &mut hear, &interrupt::asked);
    bar.finish_and_clear();
    Ok(outcome?)
}

fn tell(event: &TrainEvent<'_>, per_epoch: u64, bar: &ProgressBar, shared: &Shared) {
    match event {
        TrainEvent::Started {
            done,
            device,
            precision,
            parameters,
            cases,
            ..
        } => {
            bar.set_position(*done);
            bar.reset_eta();
            let millions = *parameters as f64 / 1e6;
            let line = format!(
                "training on {device} in {precision}: {millions:.1} M parameters, {} labelled, {} unlabelled, {} validation cases",
                cases.labelled.len(),
                cases.unlabelled.len(),
                cases.validation.len()
            );
            progress::note(shared, Some(bar), &line);
        }
        TrainEvent::Step { done, .. } => bar.set_position(*done),
        TrainEvent::Epoch(record) => {
            progress::note(shared, Some(bar), &epoch_line(record, per_epoch));
            for warning in &record.warnings {
                tracing::warn!("{warning}");
            }
        }
    }
}

fn epoch_line(record: &EpochRecord, per_epoch: u64) -> String {
    let terms: Vec<String> = record
        .terms
        .iter()
        .map(|(name, value)| format!("{name} {value:.3}"))
        .collect();
    let mut line = format!(
        "epoch {:>3}  {}  {:.2} s/step  data wait {:.0} %",
        record.epoch,
        terms.join("  "),
        record.seconds / per_epoch as f64,
        100.0 * record.data_wait
    );
    for (name, dice) in record.validation.iter().flatten() {
        line += &format!("  Dice {name} {dice:.4}");
    }
    line
}
