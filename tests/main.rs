//! Tests that cross the borders of LiSeg's crates.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod import;
mod phantom_dataset;
mod there_and_back;
