//! The `liseg` command.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people speaks to the terminal"
)]

mod command;

use clap::Parser;
use liseg::nn::runtime;

/// The exit status of a program that a shell ends because nobody reads its output.
const NOBODY_READS: i32 = 141;

fn main() {
    end_with_the_reader();
    runtime::exit(run());
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
            eprintln!("liseg: {failure}");
            failure.exit_code()
        }
    }
}

/// `liseg … | head` ends in silence when `head` does. Printing to a closed pipe panics, wherever it is.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let words = payload.downcast_ref::<String>().map(String::as_str);
        if words.is_some_and(|words| words.contains("BrokenPipe") || words.contains("Broken pipe"))
        {
            std::process::exit(NOBODY_READS);
        }
        usual(panic);
    }));
}
