//! What every LiSeg network and training strategy shares, on libtorch through [`tch`].
//!
//! - [`SegmentationNet`]: the trait at which networks and strategies meet.
//! - [`layers`]: convolution and instance normalisation with checkpoint names and a precision.
//! - [`Parameters`]: named weights, strict loading with a [`LoadReport`].
//! - [`loss`]: Dice + cross-entropy and deep supervision, as nnU-Net defines them.
//! - [`Optimiser`]: SGD, Adam and AdamW whose state round-trips through [`TensorMap`].
//! - [`checkpoint`]: safetensors files, written atomically.
//! - [`Weights`], [`transfer`]: pretrained weights from safetensors or PyTorch checkpoints, executing
//!   nothing, and how they fill a network of other classes and channels.
//! - [`checkpointed`]: stages that are computed again in the backward pass instead of being kept.
//! - [`DeviceChoice`], [`Precision`], [`runtime`]: where and how to compute.
//!
//! Library code uses tch's fallible `f_` operations throughout; a libtorch failure is an
//! [`Error::Torch`], never a panic. Torch stays on one thread per device: other threads hand over
//! plain arrays, which [`bridge`] converts.
//!
//! # Example
//! ```
//! use liseg_nn::tch::{Device, Kind, Tensor};
//! use liseg_nn::{Optimiser, OptimiserConfig, Parameters};
//!
//! // Fit a line: one weight, one bias.
//! let mut parameters = Parameters::new(Device::Cpu);
//! let slope = parameters.add("slope", Tensor::f_from_slice(&[0.0f32])?)?;
//! let mut optimiser = Optimiser::new(OptimiserConfig::adam(), &parameters)?;
//! let x = Tensor::f_arange(10, (Kind::Float, Device::Cpu))?;
//! for _ in 0..200 {
//!     let error = (x.f_mul(&slope)? - &x * 3.0).f_square()?.f_mean(Kind::Float)?;
//!     error.f_backward()?;
//!     optimiser.step(&parameters, 0.1)?;
//!     parameters.zero_grad()?;
//! }
//! assert!((slope.f_double_value(&[0])? - 3.0).abs() < 0.1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

pub mod bridge;
mod cache;
pub mod checkpoint;
mod checkpointing;
mod device;
mod error;
mod gradient;
mod kernels;
pub mod layers;
pub mod loss;
mod net;
mod optimiser;
mod parameters;
mod precision;
pub mod runtime;
mod scaler;
pub mod schedule;
mod shim;
mod transfer;
mod weights;

pub use cache::{Kept, WeightCache};
pub use checkpoint::TensorMap;
pub use checkpointing::{checkpointed, records_gradients};
pub use device::DeviceChoice;
pub use error::{Error, Result};
pub use gradient::{GradientNorm, clip_gradients};
pub use net::SegmentationNet;
pub use optimiser::{Optimiser, OptimiserConfig};
pub use parameters::{LoadReport, Parameters};
pub use precision::Precision;
pub use scaler::{GradientScaler, ScaledStep};
pub use schedule::Schedule;
pub use tch;
pub use transfer::{Transfer, TransferReport, transfer};
pub use weights::{Format, Weights};
