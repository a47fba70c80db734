//! Reads and writes medical volumes, and brings them to the grid and the intensity range of a
//! network.
//!
//! - [`nifti`]: files in and out, hardened against broken and hostile ones

mod error;
pub mod nifti;

pub use error::{Error, Result};
