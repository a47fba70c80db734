//! Strategies against published code, values computed by hand, and laws.
#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod by_hand;
mod common;
mod cps;
mod every_strategy;
mod golden;
mod invariants;
