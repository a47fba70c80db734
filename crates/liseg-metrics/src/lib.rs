//! How good is a segmentation? Overlap and surface distance in millimetres, case by case, and the
//! report on many cases.
//!
//! # What is measured
//! - [`Counts`]: voxels in both masks, in one or in neither, and what follows from them: Dice, IoU,
//!   precision, recall, relative volume error
//! - [`SurfaceDistances`]: Hausdorff distance and its percentiles, average surface distance,
//!   surface Dice at a tolerance
//! - [`Convention`]: libraries disagree on what a surface is and how both directions are put
//!   together; a named convention reproduces the numbers of one
//! - [`Mistakes`]: how sure a network is of what it has wrong
//!
//! # Empty masks
//! A measure returns a `Result` and never NaN: with an empty mask a distance is
//! [`Error::EmptyMask`]. Only a report takes a stand, by its [`EmptyPolicy`]; by default an empty
//! or missing prediction counts as the worst value, because leaving failures out would reward them.
//!
//! # Example
//! ```
//! use liseg_metrics::{CaseResult, Measure, Report, Settings, evaluate_case};
//! use liseg_volume::{Affine, LabelMap, Spacing};
//! use ndarray::{Array3, s};
//!
//! let affine = Affine::from_spacing(Spacing::new(2.5, 1.0, 1.0)?);
//! let mut reference = LabelMap::new(Array3::zeros((16, 32, 32)), affine)?;
//! reference.data_mut().slice_mut(s![4..12, 8..24, 8..24]).fill(1);
//! let mut prediction = reference.clone();
//! prediction.data_mut()[[0, 16, 16]] = 1; // a stray voxel four slices away
//!
//! let settings = Settings::default();
//! let metrics = evaluate_case(&prediction, &reference, 1, &settings)?;
//! assert_eq!(metrics.hd, Some(10.0)); // one voxel decides the maximum
//! assert_eq!(metrics.hd95, Some(0.0));
//!
//! let case = CaseResult { metrics: [("1".into(), metrics)].into(), ..CaseResult::default() };
//! let report = Report { settings, cases: vec![case], ..Report::default() };
//! println!("{:.4}", report.aggregates()["1"][&Measure::Dice].median.unwrap_or(0.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        reason = "tests compare what is exact by construction"
    )
)]

mod average;
mod case;
mod centre;
mod comparison;
mod confusion;
mod convention;
mod directed;
mod error;
mod measure;
mod mistakes;
mod percentile;
mod report;
mod statistics;
mod summary;
mod surface;
mod surfel;
#[cfg(test)]
mod testing;
mod write;

pub use case::{EmptyPolicy, Settings, evaluate_case, missing_case};
pub use comparison::{Comparison, ComparisonSettings, MethodSummary, PairedDifference, Ranking};
pub use confusion::Counts;
pub use convention::{Convention, MeanRule, PercentileRule, Points, SurfaceRule};
pub use error::{Empty, Error, Result};
pub use measure::{CaseMetrics, Measure};
pub use mistakes::Mistakes;
pub use percentile::percentile;
pub use report::{CaseResult, LabelMetrics, MissingCase, Report};
pub use statistics::{
    Alternative, Bootstrap, IntervalKind, Null, SignedRank, Zeros, average_ranks, bootstrap, holm,
    interval_of, mean_ranks, signed_rank,
};
pub use summary::Summary;
pub use surface::SurfaceDistances;
