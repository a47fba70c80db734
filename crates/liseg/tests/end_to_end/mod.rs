//! What takes longest of all tests: `cargo xtask test --quick` leaves this module out.

mod datasets;
mod experiment;
mod handbook;
mod judging;
mod own_strategy;
mod pipeline;
mod predicting;
mod resume;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod streams;
mod submit;
mod weights;
mod wrong_input;
