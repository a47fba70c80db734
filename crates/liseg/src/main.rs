//! The `liseg` command.

mod command;

use clap::Parser;
use liseg::nn::runtime;

fn main() {
    runtime::exit(command::end(run()));
}

/// The exit status.
fn run() -> u8 {
    let arguments = match command::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_mistake) => {
            let _ = help_or_mistake.print();
            return u8::try_from(help_or_mistake.exit_code()).unwrap_or(2);
        }
    };
    match command::run(&arguments) {
        Ok(command::Outcome::Done) => 0,
        Ok(command::Outcome::Partly) => 1,
        Err(failure) => {
            command::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}
