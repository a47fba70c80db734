//! Transforms of the intensities. They work in place, channel by channel, and never touch the
//! label.

pub(crate) mod bias_field;
pub(crate) mod blur;
pub(crate) mod brightness;
pub(crate) mod contrast;
pub(crate) mod curve;
pub(crate) mod gamma;
pub(crate) mod histogram;
pub(crate) mod k_space;
pub(crate) mod mask;
pub(crate) mod mixing;
pub(crate) mod noise;
pub(crate) mod non_contrast;
pub(crate) mod reversal;
mod statistics;
pub(crate) mod supervoxels;
pub(crate) mod synthetic;

pub use bias_field::BiasField;
pub use blur::{BlurAxes, BlurRule, GaussianBlur};
pub use brightness::Brightness;
pub use contrast::Contrast;
pub use curve::Curve;
pub use gamma::Gamma;
pub use histogram::{HistogramTransfer, LANDMARKS, landmarks};
pub use k_space::{Ghosting, Motion};
pub use mask::MaskOutside;
pub use mixing::Mixing;
pub use noise::GaussianNoise;
pub use non_contrast::NonContrast;
pub use reversal::Reversal;
pub use supervoxels::supervoxels;
pub use synthetic::SyntheticContrast;
