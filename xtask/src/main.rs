//! Set-up and chores of the LiSeg workspace:
//! `cargo xtask setup|test|book|demo|bench|gpu-check|fuzz|torture|dist`.
//!
//! `setup` finds or installs libtorch and is the first step of every other chore; the chores are
//! plain cargo commands, printed as they run, so that each can be repeated by hand.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people speaks to the terminal"
)]

mod arguments;
mod book;
mod checks;
mod chores;
mod failure;
mod fuzz;
mod install;
mod libtorch;
mod links;
mod peers;
mod python;
mod setup;
mod steps;
mod tally;
mod workspace;

use std::process::ExitCode;

use arguments::{Chore, HELP};
use failure::Result;
use workspace::Workspace;

fn main() -> ExitCode {
    let chore = match arguments::parse(std::env::args().skip(1)) {
        Ok(chore) => chore,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(2);
        }
    };
    match run(chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result {
    let workspace = Workspace::find();
    match chore {
        Chore::Help => {
            print!("{HELP}");
            Ok(())
        }
        Chore::Setup { check: true } => setup::check(&workspace),
        Chore::Setup { check: false } => setup::run(&workspace),
        Chore::Test { extent } => checks::run(&workspace, extent),
        Chore::Book => book::build(&workspace),
        Chore::Demo { arguments } => chores::demo(&workspace, &arguments),
        Chore::Bench { arguments } => chores::bench(&workspace, &arguments),
        Chore::GpuCheck { require, python } => {
            chores::gpu_check(&workspace, require, python.as_deref())
        }
        Chore::Peers { only } => peers::bench(&workspace, only.as_deref()),
        Chore::Fuzz { target, arguments } => fuzz::run(&workspace, &target, &arguments),
        Chore::Torture { inputs } => checks::torture(&workspace, inputs),
        Chore::Dist => chores::dist(&workspace),
    }
}
