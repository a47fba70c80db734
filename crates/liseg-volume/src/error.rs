//! What can be wrong with a volume's geometry.

/// Result of an operation on volumes and geometry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a volume's geometry.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spacing component is zero, negative or not finite.
    #[error(
        "spacing along {axis} is {found} mm; expected a positive, finite number of millimetres"
    )]
    Spacing {
        /// The axis, `z`, `y` or `x`.
        axis: char,
        /// The value found.
        found: f64,
    },
    /// An affine has an entry that is not finite, or columns that do not span space.
    #[error("the affine is unusable: {reason}")]
    Affine {
        /// What is wrong with it.
        reason: String,
    },
    /// A volume or region has no voxels.
    #[error("the volume has no voxels: its shape is {shape:?} (z, y, x)")]
    Empty {
        /// The shape found, (z, y, x).
        shape: [usize; 3],
    },
    /// A region does not lie inside the volume.
    #[error("region {region} does not fit into a volume of shape {shape:?} (z, y, x)")]
    Region {
        /// The region asked for.
        region: String,
        /// The shape of the volume, (z, y, x).
        shape: [usize; 3],
    },
    /// Two volumes that must share one grid have different shapes.
    #[error("shape {found:?} differs from {expected:?} (z, y, x)")]
    Shape {
        /// The shape expected, (z, y, x).
        expected: [usize; 3],
        /// The shape found, (z, y, x).
        found: [usize; 3],
    },
    /// An orientation code is not three letters, one for each body axis.
    #[error("`{found}` is no orientation; expected three letters such as RAS or LPS")]
    Orientation {
        /// The text found.
        found: String,
    },
}
