//! Files, resampling and normalization against nibabel and nnU-Net, and laws.
#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod files;
mod golden;
mod laws;
