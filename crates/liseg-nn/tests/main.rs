//! Weights in files, losses and optimisers against nnU-Net and PyTorch.
#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

#[cfg(target_os = "linux")]
mod blocks;
mod files;
mod loss_properties;
mod nnunet_reference;
