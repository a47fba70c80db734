//! The types every LiSeg crate speaks in: a voxel array together with its place in the patient.
//!
//! # Conventions
//! - Arrays have axes **(z, y, x)**: slices, rows, columns. That is C order in memory for the
//!   order in which NIfTI stores voxels (x fastest), so reading a file costs no transpose.
//! - World coordinates are RAS+ millimetres: x grows to the patient's **R**ight, y to the
//!   **A**nterior, z to the **S**uperior side, as in NIfTI and nibabel.
//! - An [`Affine`] maps a voxel index in *file order* (x, y, z) to world millimetres. Only its
//!   methods cross the two orders.
//! - [`Spacing`] is always a type, never a bare array, with named axes in millimetres.
//! - Operations that change the grid change the affine with it: the world coordinates of the
//!   voxels that are kept never move.
//!
//! # Example
//! ```
//! use liseg_volume::{Affine, Orientation, Spacing, Volume};
//! use ndarray::Array3;
//!
//! // A 4-slice volume stored left-anterior-superior, 7.7 mm slices.
//! let affine = Affine::from_columns([-1.25, 0.0, 0.0], [0.0, 1.25, 0.0], [0.0, 0.0, 7.7], [160.0, -120.0, 0.0])?;
//! let volume = Volume::new(Array3::<f32>::zeros((4, 256, 256)), affine)?;
//! assert_eq!(volume.orientation().to_string(), "LAS");
//! assert_eq!(volume.spacing(), Spacing::new(7.7, 1.25, 1.25)?);
//!
//! // Networks see canonical RAS; the way back is exact.
//! let canonical = volume.reorient(Orientation::RAS);
//! assert_eq!(canonical.orientation(), Orientation::RAS);
//! assert_eq!(canonical.reorient(volume.orientation()), volume);
//! # Ok::<(), liseg_volume::Error>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

mod affine;
mod error;
mod geometry;
mod orientation;
mod region;
mod seed;
mod spacing;
mod volume;

pub use affine::Affine;
pub use error::{Error, Result};
pub use geometry::{GRID_TOLERANCE_MM, Geometry};
pub use orientation::{Direction, Orientation};
pub use region::Region;
pub use seed::Seed;
pub use spacing::Spacing;
pub use volume::{LabelMap, Volume};
