//! Running one command after another, with a heading and a time for each.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// One cargo command of a chore.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    name: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    counts_tests: bool,
}

impl Step {
    /// `arguments` are those of cargo, separated by spaces.
    pub(crate) fn new(name: impl Into<String>, arguments: &str) -> Self {
        Self {
            name: name.into(),
            arguments: arguments.split_whitespace().map(String::from).collect(),
            variables: Vec::new(),
            counts_tests: false,
        }
    }

    /// Adds arguments that may hold spaces.
    pub(crate) fn with_arguments(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    pub(crate) fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Reads the closing lines of the test runner.
    pub(crate) fn counting_tests(self) -> Self {
        Self {
            counts_tests: true,
            ..self
        }
    }

    fn command(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command.args(&self.arguments);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// The step as one types it at the root of the checkout.
    pub(crate) fn typed(&self) -> String {
        let variables = self
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)));
        let arguments = self.arguments.iter().map(|argument| quoted(argument));
        variables
            .chain(["cargo".to_owned()])
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The steps of a chore that have run.
pub(crate) struct Steps<'a> {
    workspace: &'a Workspace,
    done: Vec<(String, Duration, bool)>,
    tally: Tally,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(workspace: &'a Workspace) -> Self {
        Self {
            workspace,
            done: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Runs `step` under its heading.
    ///
    /// # Errors
    /// Gives the command to repeat it by hand.
    pub(crate) fn run(&mut self, step: &Step) -> Result {
        println!("\n== {}: {}", step.name, step.typed());
        let begun = Instant::now();
        let mut command = step.command(self.workspace);
        let status = if step.counts_tests {
            run_counting(command, &mut self.tally)
        } else {
            command.status()
        };
        let success = status.as_ref().is_ok_and(ExitStatus::success);
        self.done
            .push((step.name.clone(), begun.elapsed(), success));
        let reason = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Err(
            Failure::new(format!("step `{}` failed ({reason})", step.name))
                .with_help(format!("repeat it with\n{}", step.typed())),
        )
    }

    /// Prints the table of times and, on a line of its own, the count of tests.
    pub(crate) fn print_summary(&self) {
        println!("\n{}", summary(&self.done));
        if !self.tally.is_empty() {
            println!("{}", self.tally);
        }
    }
}

fn summary(done: &[(String, Duration, bool)]) -> String {
    let total: Duration = done.iter().map(|(_, time, _)| *time).sum();
    let mut table = String::new();
    for (name, time, success) in done {
        let mark = if *success { "ok" } else { "FAILED" };
        table.push_str(&format!(
            "  {name:<24} {:>8.1} s  {mark}\n",
            time.as_secs_f64()
        ));
    }
    table.push_str(&format!(
        "  {:<24} {:>8.1} s",
        "in all",
        total.as_secs_f64()
    ));
    table
}

/// Runs `command`, passing on what it prints and counting tests in it.
fn run_counting(mut command: Command, tally: &mut Tally) -> io::Result<ExitStatus> {
    let (reader, writer) = io::pipe()?;
    let unset = |name| std::env::var_os(name).is_none();
    if io::stdout().is_terminal() && unset("NO_COLOR") && unset("CARGO_TERM_COLOR") {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // Its copies of the writing end go with it; otherwise reading would never end.
    drop(command);
    let mut stdout = io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        tally.read(&String::from_utf8_lossy(&line));
    }
    stdout.flush()?;
    child.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_prints_as_it_is_typed() {
        let step = Step::new("documentation", "doc --no-deps")
            .with_variable("RUSTDOCFLAGS", "-D warnings")
            .with_arguments(&["--out".into(), "it's here".into(), String::new()]);
        assert_eq!(
            step.typed(),
            r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --out 'it'\''s here' ''"
        );
    }

    #[test]
    fn a_failed_step_says_how_to_repeat_it() {
        let workspace = Workspace::find();
        let mut steps = Steps::new(&workspace);
        steps
            .run(&Step::new("version", "--version").counting_tests())
            .unwrap();
        let message = steps
            .run(&Step::new("odd", "--no-such-flag"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("repeat it with\n        cargo --no-such-flag"),
            "{message}"
        );
        let table = summary(&steps.done);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[0].contains("version") && lines[0].ends_with("ok"),
            "{table}"
        );
        assert!(
            lines[1].contains("odd") && lines[1].ends_with("FAILED"),
            "{table}"
        );
        assert!(lines[2].contains("in all"), "{table}");
    }
}
