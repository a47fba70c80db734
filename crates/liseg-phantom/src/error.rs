//! What can go wrong when a phantom is made.

use std::path::PathBuf;

/// Result of making or writing a phantom.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong when a phantom is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration has an impossible value.
    #[error("phantom field `{field}` is {found}; expected {expected}")]
    Config {
        /// The field of [`PhantomConfig`](crate::PhantomConfig).
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// A phase or vendor has an unknown name.
    #[error("`{found}` is no {what}; expected {expected}")]
    Name {
        /// What was asked for.
        what: &'static str,
        /// The text found.
        found: String,
        /// The names there are.
        expected: &'static str,
    },
    /// The output folder already holds something.
    #[error("{folder} exists and is not an empty folder; remove it or choose another name")]
    Occupied {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A volume cannot be written.
    #[error("cannot write {path}")]
    Image {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        #[source]
        source: Box<liseg_mri::Error>,
    },
    /// A grid cannot be built.
    #[error("the phantom's voxel grid is unusable")]
    Geometry(#[from] liseg_volume::Error),
}
