//! Events of the libraries, on standard error.

use super::{Failure, Result, Shared, terminal};
use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// What is shown beyond `-v` and `-q`, in the words of tracing's filters.
const VARIABLE: &str = "LISEG_LOG";

/// So many different warnings are remembered.
const REMEMBERED: usize = 10_000;

/// From now on events are shown: warnings, more with `-v`, fewer with `-q`, others where the variable says so.
pub(crate) fn start(shared: &Shared) -> Result<()> {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::try_new(directives(shared, &asked)).map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}={asked}: {error}; for a part of LiSeg alone as in liseg_nn=debug"
        ))
    })?;
    let registry = Registry::default().with(filter).with(Lines::default());
    registry
        .try_init()
        .map_err(|error| Failure::work(format!("events cannot be shown: {error}")))
}

/// The level of the options, and behind it what the variable says, which goes before it.
fn directives(shared: &Shared, asked: &str) -> String {
    let level = match (shared.quiet, shared.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    match asked.trim() {
        "" => level.to_owned(),
        asked => format!("{level},{asked}"),
    }
}

/// A line for each event; each warning once.
#[derive(Default)]
struct Lines {
    told: Mutex<HashSet<String>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let text = words.0;
        match *event.metadata().level() {
            Level::ERROR => terminal::complain(&text),
            Level::WARN if self.is_new(&text) => terminal::tell(&format!("warning: {text}")),
            Level::WARN => {}
            Level::INFO => terminal::tell(&text),
            _ => terminal::tell(&format!("{}: {text}", event.metadata().target())),
        }
    }
}

impl Lines {
    fn is_new(&self, text: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        !told.contains(text) && (told.len() >= REMEMBERED || told.insert(text.to_owned()))
    }
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn shared(options: &[&str]) -> Shared {
        let call = ["liseg", "doctor"].iter().chain(options);
        crate::command::Arguments::try_parse_from(call)
            .unwrap()
            .shared
    }

    #[test]
    fn options_and_the_variable_choose_what_is_shown() {
        let of = |options: &[&str], asked| directives(&shared(options), asked);
        assert_eq!(of(&[], ""), "warn");
        assert_eq!(of(&["-v"], ""), "info");
        assert_eq!(of(&["-vv"], " "), "debug");
        assert_eq!(of(&["-vvv"], ""), "trace");
        assert_eq!(of(&["-q"], "liseg_nn=debug"), "error,liseg_nn=debug");
        let filter = EnvFilter::try_new(of(&["-q"], "info")).unwrap();
        assert_eq!(filter.to_string(), "info");
    }

    #[test]
    fn a_warning_is_new_once() {
        let lines = Lines::default();
        assert!(lines.is_new("a") && lines.is_new("b"));
        assert!(!lines.is_new("a"));
    }
}
