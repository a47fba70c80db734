//! Random spatial and intensity transforms of 3-D patches, with the defaults of nnU-Net v2.
//!
//! A [`Transform`] first draws its [`Params`], all of its randomness; applying them is a pure
//! function. A patch that went wrong can thus be logged and made again, and a sample depends on
//! its own random stream alone, never on the thread that made it. A [`Pipeline`] is a list of
//! transforms with probabilities, built from an [`AugmentConfig`].
//!
//! # Conventions
//! - Images have axes `[c, z, y, x]`, labels `[z, y, x]`. Lengths are voxels of the patch.
//! - The label −1 marks voxels outside the image. It is moved like any other label; see
//!   [`Sample::outside_to_background`].
//! - A patch is loaded larger than the network needs, by [`Pipeline::initial_shape`], so that
//!   rotation and scaling find real voxels in the corners. The spatial step is the first and
//!   brings it to its final shape in one resampling, or one crop.
//! - Nothing here starts threads: loaders run many samples side by side.
//! - Images are expected to be finite.
//!
//! # Example
//! ```
//! use liseg_augment::{AugmentConfig, Pipeline, PatchInfo, Sample};
//! use liseg_volume::Seed;
//! use ndarray::{Array3, Array4};
//!
//! let pipeline = AugmentConfig::default().build()?;
//! let final_shape = [16, 32, 32];
//! let [z, y, x] = pipeline.initial_shape(final_shape);
//! let patch = Sample::new(Array4::ones((1, z, y, x)), Array3::zeros((z, y, x)));
//!
//! // One stream per sample: epoch 0, sample 3.
//! let mut rng = Seed(1).stream("augment", 0, 3);
//! let params = pipeline.draw(&PatchInfo { final_shape, channels: 1 }, &mut rng);
//! let sample = Pipeline::apply(&params, patch.clone())?;
//! assert_eq!(sample.shape(), final_shape);
//!
//! // The same parameters give the same patch.
//! assert_eq!(Pipeline::apply(&params, patch)?, sample);
//! # Ok::<(), liseg_augment::Error>(())
//! ```

mod apply;
pub mod config;
mod convolve;
mod error;
#[cfg(test)]
mod golden;
pub mod intensity;
mod interval;
mod math;
mod noise;
mod params;
mod pipeline;
mod sample;
mod scratch;
mod simd;
pub mod spatial;
mod transform;

pub use config::{AugmentConfig, Axis, Preset, Views};
pub use error::{Error, Result};
pub use interval::{Draw, Interval};
pub use params::Params;
pub use pipeline::Pipeline;
pub use sample::{ExtraMap, MapKind, OUTSIDE, Sample};
pub use scratch::Scratch;
pub use transform::{OnChannel, PatchInfo, Transform};
