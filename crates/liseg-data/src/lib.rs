//! From a data set on disk to batches of patches.
//!
//! - [`Dataset`]: which images there are, which have labels; [`Dataset::check`] finds what is wrong
//! - [`import()`]: LiQA, ATLAS and other nnU-Net data sets, brought into one layout with `cases.json`
//! - [`folds()`], [`holdout()`], [`reduce_labels`]: which cases train, with and without their labels,
//!   and which validate
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
//!     CaseStore, Dataset, Fingerprint, Loader, LoaderConfig, Plan, PlanOptions, PreprocessOptions,
//!     preprocess_dataset,
//! };
//! use liseg_volume::Seed;
//! use std::{path::Path, sync::Arc};
//!
//! let dataset = Dataset::open(Path::new("Dataset001_Liver"))?;
//! for finding in dataset.check() {
//!     println!("{:?} {}: {}", finding.severity, finding.file.display(), finding.message);
//! }
//! let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &PlanOptions::default())?;
//! let options = PreprocessOptions { jobs: 4, ..Default::default() };
//! let report = preprocess_dataset(&dataset, &plan, Path::new("store"), &options, |event| {
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

mod balance;
mod batch;
mod capacity;
mod case_list;
mod check;
mod confine;
mod dataset;
mod description;
mod draw;
mod error;
mod extent;
mod fingerprint;
mod foreground;
mod import;
mod joined;
mod json;
mod listing;
mod loader;
mod mapped;
mod mask;
mod memory;
mod nnunet_plans;
mod nnunet_v1;
mod pairs;
mod phases;
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

pub use balance::Balance;
pub use batch::{Batch, LabelledPatch, Origin, UnlabelledPatch};
pub use capacity::PlanNetwork;
pub use case_list::CaseAttributes;
pub use check::{Finding, Severity};
pub use confine::confined;
pub use dataset::{Case, Dataset, RefusedCase, Subset};
pub use description::{DatasetDescription, DescriptionVersion, ListedCase};
pub use draw::Pipelines;
pub use error::{Error, Result};
pub use extent::check_extent;
pub use fingerprint::{CaseFingerprint, Fingerprint, IntensitySummary};
pub use import::{
    ImportOptions, ImportReport, LabelRule, Layout, Placement, Remark, RemarkKind, Survey, import,
};
pub use loader::{Loader, LoaderConfig, LoaderStats, MOST_WORKERS};
pub use memory::{available_memory, bytes_of_voxels, check_voxels, side_by_side};
pub use nnunet_plans::NnunetPlanner;
pub use nnunet_v1::NnunetV1Stage;
pub use phases::{SUB_TASKS, phases_of};
pub use plan::{Normalization, Plan};
pub use planner::{PlanOptions, target_spacing};
pub use prepare::{Event, Outcome, PreprocessOptions, Report, preprocess_dataset};
pub use preprocess::{
    PreprocessedImage, Restore, preprocess_image, preprocess_label, preprocess_phase,
    preprocess_volume,
};
pub use split::{
    Fold, SplitProtocol, choose_unlabelled, folds, holdout, nnunet_folds, read_splits,
    reduce_labels, write_splits,
};
pub use store::{CaseStore, Provenance, Record, StoredCase, StoredPrecision};
pub use topology::{DOWNSAMPLINGS, Topology, divisor, five_strides, pooling};
