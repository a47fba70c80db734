//! Transforms of the grid: rotation, scaling, elastic deformation and cropping in one resampling;
//! mirroring; simulated low resolution.

pub(crate) mod affine;
mod border;
pub(crate) mod elastic;
pub(crate) mod field;
mod gather;
mod lattice;
pub(crate) mod low_resolution;
pub(crate) mod mirror;
mod params;
mod resample;
mod row;
mod spline;
pub(crate) mod vote;
pub(crate) mod warp;

pub use affine::Spatial;
pub use elastic::{Elastic, ElasticField, ElasticParams};
pub use low_resolution::{Anisotropy, LowResolution, ReadBack};
pub use mirror::Mirror;
pub use params::{Generation, SpatialParams};
