//! What can be wrong with a data set, a plan or a store.

use liseg_volume::Spacing;
use std::path::{Path, PathBuf};

/// Result of an operation on data sets.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a lower crate, kept whole.
type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What can be wrong with a data set, a plan or a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// What was tried, such as `reading`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// A JSON file is malformed or has a field that is missing, unknown or of the wrong kind.
    #[error("{} is not what was expected: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with field or line.
        reason: String,
    },
    /// The folder of a data set is not laid out as expected.
    #[error("data set {}: {reason}", folder.display())]
    Dataset {
        /// The folder of the data set.
        folder: PathBuf,
        /// What was found, and what to do.
        reason: String,
    },
    /// A case has channel files other than the single `_0000`.
    #[error(
        "case `{case}` in {} has channel files {found:?}; one channel, `_0000`, is supported: make \
         every phase a case of its own and name its phase in cases.json",
        folder.display()
    )]
    Channels {
        /// The folder of the images.
        folder: PathBuf,
        /// The case.
        case: String,
        /// The channel suffixes found.
        found: Vec<String>,
    },
    /// A file cannot be read, or an image cannot be normalised or resampled.
    #[error(transparent)]
    Mri(#[from] liseg_mri::Error),
    /// A label file holds values that `dataset.json` does not declare.
    #[error(
        "{} holds label value {value} in {count} voxels; declared are {declared:?}: correct the \
         file, or declare the value in dataset.json",
        path.display()
    )]
    LabelValue {
        /// The label file.
        path: PathBuf,
        /// The first undeclared value.
        value: u8,
        /// Voxels with that value.
        count: usize,
        /// The declared values.
        declared: Vec<u8>,
    },
    /// A case cannot be used.
    #[error("case `{case}`: {source}")]
    Case {
        /// The case.
        case: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A case is there and none of its files can be taken for what it should be.
    #[error("{}: {reason}", listed(files))]
    Refused {
        /// All files in question.
        files: Vec<PathBuf>,
        /// What is wrong with them.
        reason: String,
    },
    /// An image and its label do not lie on one grid.
    #[error(
        "label {} has shape {found:?} (z, y, x) and its image {expected:?}, with corners up to \
         {distance_mm:.3} mm apart: both must lie on one grid",
        path.display()
    )]
    Grid {
        /// The label file.
        path: PathBuf,
        /// The shape of the image.
        expected: [usize; 3],
        /// The shape of the label.
        found: [usize; 3],
        /// The largest distance of a corner, in millimetres.
        distance_mm: f64,
    },
    /// By its header an image shows something much smaller or larger than a body.
    #[error("{}: {found}: {cause}", path.display())]
    Extent {
        /// The image.
        path: PathBuf,
        /// The spacing or size, and what would be usual.
        found: String,
        /// The likely cause, and what to do.
        cause: &'static str,
    },
    /// There is too little memory for an image on the plan's grid.
    #[error(
        "{}: bringing the image to {spacing} takes up to {:.1} GiB and {:.1} GiB are free: is the image's spacing \
         right? Else choose a coarser grid, or free some memory",
        path.display(),
        *needed as f64 / f64::from(1 << 30),
        *available as f64 / f64::from(1 << 30)
    )]
    Memory {
        /// The image.
        path: PathBuf,
        /// Bytes that are needed at most.
        needed: u64,
        /// Bytes that are free.
        available: u64,
        /// The plan's spacing.
        spacing: Spacing,
    },
    /// There is too little memory for the voxels of a file.
    #[error(
        "{}: {}×{}×{} voxels (z, y, x) take {:.1} GiB at least and {:.1} GiB are free: is it the right file? Else free \
         some memory",
        path.display(),
        shape[0],
        shape[1],
        shape[2],
        *needed as f64 / f64::from(1 << 30),
        *available as f64 / f64::from(1 << 30)
    )]
    Voxels {
        /// The file.
        path: PathBuf,
        /// Voxels along (z, y, x).
        shape: [usize; 3],
        /// Bytes that are needed at least.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// An array has another shape than the step needs.
    #[error("{what} has shape {found:?} (z, y, x) where {expected:?} is needed")]
    Shape {
        /// Which array.
        what: &'static str,
        /// The shape needed.
        expected: [usize; 3],
        /// The shape found.
        found: [usize; 3],
    },
    /// A field of a plan, of its options or of a configuration cannot be used.
    #[error("`{field}` cannot be used: {reason}")]
    Setting {
        /// The field.
        field: &'static str,
        /// What was found, expected, and what to do.
        reason: String,
    },
    /// The patch cannot be halved as often as the network does.
    #[error(
        "`patch_size` {patch:?} (z, y, x) is not divisible by the product of the strides \
         {divisor:?}; the nearest valid patch is {nearest:?}"
    )]
    Patch {
        /// The patch found.
        patch: [usize; 3],
        /// What each axis must be a multiple of.
        divisor: [usize; 3],
        /// The nearest patch that is.
        nearest: [usize; 3],
    },
    /// A geometry operation failed.
    #[error(transparent)]
    Geometry(#[from] liseg_volume::Error),
    /// A store or one of its files is damaged, unfinished or made with another plan.
    #[error("store {}: {reason}", path.display())]
    Store {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A patch could not be made.
    #[error("patch {slot} of iteration {iteration}, from case `{case}`: {source}")]
    Patching {
        /// The case the patch was cut from.
        case: String,
        /// The iteration.
        iteration: u64,
        /// The patch within its batch.
        slot: usize,
        /// What went wrong.
        source: Source,
    },
    /// Threads could not be started, or one of them stopped.
    #[error("worker threads: {reason}")]
    Threads {
        /// What happened.
        reason: String,
    },
}

/// Files with commas between them.
fn listed(files: &[PathBuf]) -> String {
    let files = files.iter().map(|file| file.display().to_string());
    files.collect::<Vec<_>>().join(", ")
}

impl Error {
    /// Wraps an input/output error: `.map_err(Error::io("reading", path))`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Says which case an error belongs to.
    pub(crate) fn of_case(case: &str) -> impl FnOnce(Self) -> Self {
        move |source| Self::Case {
            case: case.to_owned(),
            source: Box::new(source),
        }
    }

    pub(crate) fn store(path: &Path, reason: impl Into<String>) -> Self {
        Self::Store {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn setting(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Setting {
            field,
            reason: reason.into(),
        }
    }
}
