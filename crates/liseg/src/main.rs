//! The `liseg` command.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people speaks to the terminal"
)]

mod command;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    match command::run(&arguments) {
        Ok(command::Outcome::Done) => ExitCode::SUCCESS,
        Ok(command::Outcome::Partly) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("liseg: {failure}");
            failure.exit_code()
        }
    }
}
