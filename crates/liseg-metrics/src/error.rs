//! Why a measure has no value, and what can be wrong with a request.

use std::path::PathBuf;

/// Result of a measurement.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which of two masks is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Empty {
    /// The prediction and the reference.
    Both,
    /// The prediction alone.
    Prediction,
    /// The reference alone.
    Reference,
}

impl std::fmt::Display for Empty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Both => "the prediction and the reference are empty",
            Self::Prediction => "the prediction is empty",
            Self::Reference => "the reference is empty",
        })
    }
}

/// Why a measure has no value, or what is wrong with a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A measure is undefined because a mask is empty.
    #[error("{0}")]
    EmptyMask(Empty),
    /// The reference of a case is empty under a policy that takes this for an error in the data.
    #[error(
        "label {label} has no voxels in the reference; check the file, or choose the empty policy \
         `exclude` or `both-empty-is-perfect`"
    )]
    EmptyReference {
        /// The label looked for.
        label: u8,
    },
    /// A mask is not empty but has no boundary: it fills the image, and what lies beyond the image
    /// counts as object.
    #[error("the {mask} fills the image and has no boundary inside it")]
    NoBoundary {
        /// `prediction` or `reference`.
        mask: &'static str,
    },
    /// A ratio whose denominator is 0.
    #[error("{measure} is undefined: {denominator} is 0")]
    ZeroDenominator {
        /// The name of the measure.
        measure: &'static str,
        /// What is 0.
        denominator: &'static str,
    },
    /// Prediction and reference have different shapes.
    #[error(
        "the prediction has {found:?} voxels (z, y, x) and the reference {expected:?}; \
         resample the prediction to the grid of the reference"
    )]
    Shape {
        /// The shape of the reference, (z, y, x).
        expected: [usize; 3],
        /// The shape of the prediction, (z, y, x).
        found: [usize; 3],
    },
    /// Prediction and reference have one shape but lie at different places.
    #[error(
        "prediction and reference lie up to {distance_mm:.3} mm apart, more than {tolerance_mm} mm; \
         resample the prediction to the grid of the reference"
    )]
    Grid {
        /// The largest distance between the same corner voxel of both grids, in millimetres.
        distance_mm: f64,
        /// What was allowed, in millimetres.
        tolerance_mm: f64,
    },
    /// A percentile lies outside 0 to 100.
    #[error("the percentile is {found}; expected a number from 0 to 100")]
    Percentile {
        /// The value found.
        found: f64,
    },
    /// A rule measures from the dual grid to voxels or the other way round.
    #[error("`points` and `targets` must both be `dual-grid` or neither")]
    MixedPoints,
    /// The coverage of an interval is no share.
    #[error("the level is {found}; expected a number between 0 and 1, such as 0.95")]
    Level {
        /// The value found.
        found: f64,
    },
    /// Paired values that are not as many on both sides.
    #[error("there are {first} values of the first method and {second} of the second; pair them")]
    Pairs {
        /// Values of the first method.
        first: usize,
        /// Values of the second method.
        second: usize,
    },
    /// A value that is no finite number where a test needs one.
    #[error("a value is NaN or infinite; leave its pair out or give it a number")]
    NotFinite,
    /// Fewer than two reports to compare, or reports without a case in common.
    #[error("cannot compare: {reason}")]
    Comparison {
        /// What is wrong.
        reason: String,
    },
    /// A statistic of no values.
    #[error("there are no values to take a statistic of")]
    NoValues,
    /// A number among the settings is negative or not finite.
    #[error("`{name}` is {found}; expected a finite number of millimetres, 0 or more")]
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// The value found.
        found: f64,
    },
    /// A number that is no probability, or one too small to be what it is.
    #[error("{what} is {found}; expected a number from {least} to 1")]
    Probability {
        /// What the number is.
        what: &'static str,
        /// The number found.
        found: f64,
        /// The least that it may be.
        least: f64,
    },
    /// A name that is no convention.
    #[error("`{found}` is no convention; expected one of {expected}")]
    Convention {
        /// The text found.
        found: String,
        /// The names there are.
        expected: String,
    },
    /// A report could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file to write.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A report could not be read.
    #[error("cannot read {} as a report of `evaluate`", path.display())]
    Read {
        /// The file to read.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
