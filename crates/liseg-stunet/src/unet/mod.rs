//! The plain 3-D U-Net of nnU-Net: the baseline beside STU-Net.

mod config;
mod identify;
mod model;
mod summary;

pub use config::UnetConfig;
pub use model::Unet;
