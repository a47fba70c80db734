//! Writing and reading files.

mod common;
mod options;
mod regressions;
mod round_trip;
