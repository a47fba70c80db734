//! Transforms of the intensities. They work in place, channel by channel, and never touch the
//! label.

pub(crate) mod blur;
pub(crate) mod brightness;
pub(crate) mod contrast;
pub(crate) mod gamma;
pub(crate) mod noise;
mod statistics;

pub use blur::GaussianBlur;
pub use brightness::Brightness;
pub use contrast::Contrast;
pub use gamma::Gamma;
pub use noise::GaussianNoise;
