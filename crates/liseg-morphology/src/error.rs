//! What can be wrong with a request to this crate.

/// Result of a morphological operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a request to this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A radius is negative or not finite.
    #[error("the radius is {found} mm; expected a finite number of millimetres, 0 or more")]
    Radius {
        /// The value found.
        found: f64,
    },
    /// A volume has more voxels than can be numbered.
    #[error(
        "the volume has {found} voxels; expected fewer than {} to number them",
        u32::MAX
    )]
    Voxels {
        /// The number found.
        found: usize,
    },
}
