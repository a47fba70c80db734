//! What can go wrong with files, grids and intensities.

use std::path::{Path, PathBuf};

/// Result of reading, writing, resampling or normalising a volume.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with files, grids and intensities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read or write a file.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as in `open the file`.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The compressed stream is damaged.
    #[error("{path}: the compressed data are damaged or cut short; copy or export the file again")]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor found.
        source: std::io::Error,
    },
    /// The file ends before its header or its last voxel.
    #[error(
        "{path}: the file is cut short: {expected} bytes are needed, {found} are there; copy or export it again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for, after decompression.
        expected: u64,
        /// Bytes found; for a compressed file an upper bound where it could be told beforehand.
        found: u64,
    },
    /// The file is no NIfTI image.
    #[error("{path}: this is no NIfTI file: {reason}")]
    NotNifti {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A header field has a value that cannot be right.
    #[error("{path}: header field {field} is {found}; expected {expected}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Name of the field in the NIfTI standard.
        field: &'static str,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The place of the voxels in the patient is unknown or impossible.
    #[error("{path}: {form} is unusable: {reason}; repair the header or export the file again")]
    Affine {
        /// The file.
        path: PathBuf,
        /// Where the affine came from: `sform`, `qform` or `pixdim`.
        form: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A voxel type or file form that this crate does not read or write.
    #[error("{path}: {what} is not supported; {advice}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// The file holds more than one volume.
    #[error(
        "{path}: the file holds {volumes} volumes (dimensions {dims:?}); expected one 3-D volume: choose one (`read_volume`), or split the file first"
    )]
    SeveralVolumes {
        /// The file.
        path: PathBuf,
        /// How many volumes.
        volumes: u64,
        /// The dimensions in file order.
        dims: Vec<u64>,
    },
    /// A volume was chosen that the file does not have.
    #[error("{path}: there is no volume {index}; the file has {volumes}, counted from 0")]
    NoSuchVolume {
        /// The file.
        path: PathBuf,
        /// The one asked for, counted from 0.
        index: u64,
        /// How many there are.
        volumes: u64,
    },
    /// A voxel of a label map is no whole number from 0 to 255.
    #[error(
        "{path}: voxel {voxel:?} (z, y, x) is {value}; labels are whole numbers from 0 to 255: is this an image or a probability map?"
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The value found, after scaling.
        value: f64,
        /// Where, in order (z, y, x).
        voxel: [usize; 3],
    },
    /// There is not enough memory for the voxels.
    #[error("{path}: not enough memory for {voxels} voxels")]
    Memory {
        /// The file.
        path: PathBuf,
        /// How many voxels the header asks for.
        voxels: u64,
    },
    /// Voxels that are NaN or infinite where numbers are needed.
    #[error(
        "{count} voxels are NaN or infinite, the first at {first:?} (z, y, x); replace them before"
    )]
    NotFinite {
        /// How many.
        count: usize,
        /// The first one in memory order, (z, y, x).
        first: [usize; 3],
    },
    /// A mask selects no voxel, or a percentile does not exist.
    #[error("{reason}")]
    Selection {
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Two arrays that must have one shape differ.
    #[error("shape {found:?} differs from {expected:?} (z, y, x)")]
    Shape {
        /// The shape expected, (z, y, x).
        expected: [usize; 3],
        /// The shape found, (z, y, x).
        found: [usize; 3],
    },
    /// Resampling would give an absurdly large grid.
    #[error(
        "resampling from {from} to {to} would turn {shape:?} voxels (z, y, x) into {new_shape:?}, more than {limit} in all; check the spacing in the file"
    )]
    TooLarge {
        /// The spacing of the volume.
        from: liseg_volume::Spacing,
        /// The spacing asked for.
        to: liseg_volume::Spacing,
        /// The shape of the volume, (z, y, x).
        shape: [usize; 3],
        /// The shape asked for, (z, y, x).
        new_shape: [usize; 3],
        /// The largest number of voxels that is tried.
        limit: usize,
    },
    /// A grid to resample onto has no voxels or absurdly many.
    #[error("a grid of {shape:?} voxels (z, y, x) is empty or has more than {limit} in all")]
    Grid {
        /// The shape asked for, (z, y, x).
        shape: [usize; 3],
        /// The largest number of voxels that is tried.
        limit: usize,
    },
    /// A saved standard is no valid JSON of its kind.
    #[error("{path}: this is no intensity standard: {reason}")]
    Standard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A grid is impossible.
    #[error(transparent)]
    Volume(#[from] liseg_volume::Error),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }

    pub(crate) fn header(
        path: &Path,
        field: &'static str,
        found: impl ToString,
        expected: &'static str,
    ) -> Self {
        Self::Header {
            path: path.to_owned(),
            field,
            found: found.to_string(),
            expected,
        }
    }
}
