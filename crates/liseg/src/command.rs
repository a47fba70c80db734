//! One module for each verb, and what they share.

mod augment_preview;
mod bundle;
mod compare;
mod demo;
mod doctor;
mod evaluate;
mod experiment;
mod experiment_jobs;
mod failure;
mod import;
mod info;
mod interrupt;
mod logging;
#[cfg(test)]
mod manual;
mod memory_size;
mod mistakes;
mod named;
mod occupied;
mod outputs;
mod phantom;
mod phases;
mod plan;
mod predict;
mod preprocess;
mod progress;
mod repair;
mod report;
mod schema;
mod shell;
mod split;
mod submit;
mod summary;
mod terminal;
mod train;
mod verify;
mod weights;

pub(crate) use failure::{Failure, Result};
use terminal::say;
pub(crate) use terminal::{complain, end};

use clap::{ArgAction, Parser, Subcommand};
use liseg::nn::DeviceChoice;
use liseg_file::text::is_code;

/// What `liseg --version` says.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("LISEG_COMMIT"),
    "\ntarget:   ",
    env!("LISEG_TARGET"),
    "\nprofile:  ",
    env!("LISEG_PROFILE"),
    "\ncompiler: ",
    env!("LISEG_RUSTC"),
    "\nlibtorch: 2.11.0",
);

const EXIT_STATUS: &str = "\
Exit status:
  0    all done
  1    something failed, or was stopped by Ctrl-C, SIGTERM or SIGHUP; what could be done is done
  2    the call or the config is wrong
  130  ended at once by a second Ctrl-C
  141  all done, but nobody read the result to its end";

/// Label-efficient liver segmentation in multi-phase MRI.
///
/// A first look: `liseg demo`. On your own nnU-Net dataset: `plan`, `preprocess`, `train`,
/// `predict`, `evaluate`, in this order.
#[derive(Debug, Parser)]
#[command(name = "liseg", version, long_version = LONG_VERSION, max_term_width = 100, after_long_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(flatten, next_help_heading = "Options of every verb")]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Shared {
    /// Print the result as JSON on standard output, for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute with; all of the machine's when absent.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceChoice>,
    /// Seed of everything random, in place of the config's.
    #[arg(long, global = true, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Say nothing but errors and the result: no progress, no warnings.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: what is found on the way (-v), in detail (-vv). LISEG_LOG=liseg_nn=debug does so for a part.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Their descriptions are those of the structs: one here would hide all but its own line from `--help`.
#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Info(info::Info),
    Verify(verify::Verify),
    Phantom(phantom::Phantom),
    Import(import::Import),
    Split(split::Split),
    Plan(plan::PlanVerb),
    Preprocess(preprocess::Preprocess),
    AugmentPreview(augment_preview::AugmentPreview),
    Train(train::Train),
    Predict(predict::Predict),
    Bundle(bundle::Bundle),
    Submit(submit::Submit),
    Evaluate(evaluate::Evaluate),
    Mistakes(mistakes::MistakesVerb),
    Compare(compare::Compare),
    Experiment(experiment::ExperimentVerb),
    Report(report::ReportVerb),
    Weights(weights::WeightsVerb),
    Schema(schema::SchemaVerb),
    Completions(shell::Completions),
    Manual(shell::Manual),
    Summary(summary::SummaryVerb),
}

/// How a verb ended when it did not fail as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is done.
    Done,
    /// Some of it failed, and was reported.
    Partly,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let shared = &arguments.shared;
    logging::start(shared)?;
    match &arguments.verb {
        Verb::Predict(_) | Verb::Submit(_) => liseg::nn::runtime::return_large_blocks(),
        _ => {
            liseg::nn::runtime::keep_large_blocks();
            liseg::nn::runtime::reuse_tensor_memory();
        }
    }
    set_threads(shared)?;
    match &arguments.verb {
        Verb::Demo(verb) => verb.run(shared),
        Verb::Doctor(verb) => verb.run(shared),
        Verb::Info(verb) => verb.run(shared),
        Verb::Verify(verb) => verb.run(shared),
        Verb::Phantom(verb) => verb.run(shared),
        Verb::Import(verb) => verb.run(shared),
        Verb::Split(verb) => verb.run(shared),
        Verb::Plan(verb) => verb.run(shared),
        Verb::Preprocess(verb) => verb.run(shared),
        Verb::AugmentPreview(verb) => verb.run(shared),
        Verb::Train(verb) => verb.run(shared),
        Verb::Predict(verb) => verb.run(shared),
        Verb::Bundle(verb) => verb.run(shared),
        Verb::Submit(verb) => verb.run(shared),
        Verb::Evaluate(verb) => verb.run(shared),
        Verb::Mistakes(verb) => verb.run(shared),
        Verb::Compare(verb) => verb.run(shared),
        Verb::Experiment(verb) => verb.run(shared),
        Verb::Report(verb) => verb.run(shared),
        Verb::Weights(verb) => verb.run(shared),
        Verb::Schema(verb) => Ok(verb.run()),
        Verb::Completions(verb) => Ok(verb.run()),
        Verb::Manual(verb) => verb.run(),
        Verb::Summary(verb) => verb.run(shared),
    }
}

fn set_threads(shared: &Shared) -> Result<()> {
    let Some(threads) = shared.threads.map(usize::from) else {
        return Ok(());
    };
    liseg::nn::runtime::set_threads(threads);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::usage(format!("--threads {threads}: {e}")))
}

/// [`print_json`] of what `serde_json::to_value` makes of a result.
pub(crate) fn print_as_json(value: serde_json::Result<serde_json::Value>) -> Result<()> {
    let value = value.map_err(|e| Failure::work(format!("there is no JSON of the result: {e}")))?;
    print_json(&value);
    Ok(())
}

/// Prints a value as JSON on standard output, where a string may hold no code that a terminal obeys.
pub(crate) fn print_json(value: &serde_json::Value) {
    // `{:#}` of a value is its JSON; the codes below 32 are written out in it already, and none needs more than four digits.
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        match is_code(c) {
            true => text += &format!("\\u{:04x}", u32::from(c)),
            false => text.push(c),
        }
    }
    terminal::pass_on(text.as_bytes());
}
