//! From a data set on disk to batches of patches.
//!
//! - [`Dataset`]: which images there are, which have labels; [`Dataset::check`] finds what is wrong
//! - [`folds`]: which labelled cases train and which validate
//! - [`Fingerprint`] and [`Plan`]: the spacing, patch and poolings that suit the images
//! - [`preprocess_image`]: what a network sees, and [`Restore`], the exact way back
//! - [`preprocess_dataset`] and [`CaseStore`]: preprocessed cases in memory-mapped files
//! - [`Loader`]: batches of labelled and unlabelled patches, the same for any number of threads
//!
//! Rules and numbers are nnU-Net v2's (Isensee et al. 2021, Nature Methods 18) unless a function
//! says otherwise. What differs throughout: volumes are turned to canonical RAS and axes are never
//! transposed; there are always five poolings, as STU-Net has; voxels of value zero inside the image
//! are background like any other, and only what lies outside an image is marked as not valid.
//!
//! # Example
//! ```no_run
//! use liseg_augment::AugmentConfig;
//! use liseg_data::{
//!     CaseStore, Dataset, Fingerprint, Loader, LoaderConfig, Plan, PlanOptions, preprocess_dataset,
//! };
//! use liseg_volume::Seed;
//! use std::{path::Path, sync::Arc};
//!
//! let dataset = Dataset::open(Path::new("Dataset001_Liver"))?;
//! for finding in dataset.check() {
//!     println!("{:?} {}: {}", finding.severity, finding.file.display(), finding.message);
//! }
//! let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &PlanOptions::default())?;
//! let report = preprocess_dataset(&dataset, &plan, Path::new("store"), 4, true, |event| {
//!     println!("{} of {}: {}", event.done, event.total, event.case);
//! })?;
//! assert!(report.failed.is_empty());
//!
//! let store = Arc::new(CaseStore::open(Path::new("store"))?);
//! let config = LoaderConfig { unlabelled: 2, patch_size: plan.patch_size, ..Default::default() };
//! let pipeline = Arc::new(AugmentConfig::default().build()?);
//! for batch in Loader::new(store, config, pipeline, Seed(1))? {
//!     let batch = batch?;
//!     assert_eq!((batch.labelled.len(), batch.unlabelled.len()), (2, 2));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod check;
mod dataset;
mod description;
mod draw;
mod error;
mod fingerprint;
mod foreground;
mod json;
mod loader;
mod mapped;
mod plan;
mod planner;
mod prepare;
mod preprocess;
pub mod sampler;
mod split;
mod store;
#[cfg(test)]
mod testing;
mod topology;
mod workers;

pub use batch::{Batch, LabelledPatch, Origin, UnlabelledPatch};
pub use check::{Finding, GRID_TOLERANCE_MM, Severity};
pub use dataset::{Case, Dataset, Subset};
pub use description::CaseAttributes;
pub use error::{Error, Result};
pub use fingerprint::{CaseFingerprint, Fingerprint, IntensitySummary};
pub use loader::{Loader, LoaderConfig, LoaderStats};
pub use plan::{Normalization, Plan};
pub use planner::{PlanOptions, target_spacing};
pub use prepare::{Event, Outcome, Report, preprocess_dataset};
pub use preprocess::{PreprocessedImage, Restore, preprocess_image, preprocess_label};
pub use split::{Fold, folds};
pub use store::{CaseStore, Provenance, Record, StoredCase};
pub use topology::{DOWNSAMPLINGS, divisor, five_strides, pooling};
