//! STU-Net (Huang et al. 2023, arXiv 2304.06716): a scalable, transferable residual U-Net for 3-D
//! medical images, with parameter names and shapes identical to the published checkpoints.
//!
//! - Six stages. A stage's first residual block carries the stride in its first convolution and in
//!   a 1×1×1 shortcut beside it.
//! - Up-sampling by nearest neighbours and a 1×1×1 convolution, no transposed convolutions.
//! - A segmentation head at each of the five decoder scales (deep supervision).
//! - Kernels are 3×3×3 whatever the strides: anisotropic strides keep weights compatible.
//!
//! Beside it stands [`Unet`], nnU-Net's plain U-Net (Isensee et al. 2021), the baseline that needs no
//! pretraining; [`Architecture`] is either of them.
//!
//! # Example
//! ```
//! use liseg_nn::tch::{Device, Kind, Tensor};
//! use liseg_nn::SegmentationNet;
//! use liseg_stunet::{StuNet, StuNetConfig};
//! use liseg_volume::Seed;
//!
//! // A tiny network for thick slices: in-plane first, then all axes.
//! let config = StuNetConfig {
//!     widths: [4, 8, 8, 8, 8, 8],
//!     strides: [[1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]],
//!     ..StuNetConfig::small(2)
//! };
//! let net = StuNet::new(&config, Device::Cpu, &mut Seed(1).stream("weights", 0, 0))?;
//! let images = Tensor::f_zeros([1, 1, 4, 64, 64], (Kind::Float, Device::Cpu))?;
//! assert_eq!(net.forward(&images)?.size(), [1, 2, 4, 64, 64]);
//! assert_eq!(net.forward_scales(&images)?.len(), 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

mod architecture;
mod block;
mod config;
mod cost;
mod identify;
mod inference;
mod input;
mod model;
mod summary;
mod unet;

pub use architecture::Architecture;
pub use config::{Size, StuNetConfig};
pub use model::StuNet;
pub use summary::{StageSummary, Summary};
pub use unet::{Unet, UnetConfig};
