//! What can go wrong when a picture is made.

use std::path::PathBuf;

/// Result of making or writing a picture.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong when a picture is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mask does not lie on the grid of the image it is to be drawn on.
    #[error(
        "outline {index} has shape {found:?} (z, y, x) or an affine that differs from the image, \
         whose shape is {expected:?}; resample the mask to the image first"
    )]
    Grid {
        /// Which of the outlines, counted from 0.
        index: usize,
        /// Shape of the image, (z, y, x).
        expected: [usize; 3],
        /// Shape of the mask, (z, y, x).
        found: [usize; 3],
    },
    /// A field of the layout has a value that makes no picture.
    #[error("layout field `{field}` is {found}; expected {expected}")]
    Layout {
        /// The field of [`Layout`](crate::Layout).
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The picture would be too large to be useful.
    #[error(
        "the picture would have {width}×{height} pixels, more than {limit} along a side; lower \
         `pixels_per_mm` or the number of slices"
    )]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Largest side allowed.
        limit: usize,
    },
    /// The PNG encoder refused the picture.
    #[error("the picture cannot be encoded as PNG")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
