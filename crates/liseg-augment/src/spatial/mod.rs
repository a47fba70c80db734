//! Transforms of the grid: rotation and scaling, mirroring, and simulated low resolution.

pub(crate) mod affine;
pub(crate) mod low_resolution;
pub(crate) mod mirror;
mod resample;

pub use affine::{Spatial, SpatialParams};
pub use low_resolution::LowResolution;
pub use mirror::Mirror;
