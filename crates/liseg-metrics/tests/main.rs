//! Measures and statistics against other libraries, and laws.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod golden;
mod laws;
mod statistics;
