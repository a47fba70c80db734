//! The command from end to end, and the handbook.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod common;
mod end_to_end;
mod torture;
