//! Runs LiSeg: training that resumes exactly, prediction in the input's own geometry, evaluation.
//!
//! - [`RunConfig`]: everything a run can be told, in one TOML file.
//! - [`train`]: the training loop. It knows nothing of the strategy but its trait.
//! - [`RunFolder`]: what a run leaves on disk; [`EventWriter`] adds what TensorBoard draws.
//! - [`experiment`]: a grid of runs from one file, and one table of what became of them.
//! - [`predict`]: sliding window, export to the file's grid, folders of files.
//! - [`evaluate`]: predictions against references, missing ones counted.
//! - [`mistakes`]: how sure a network is of what it has wrong.
//!
//! # Example
//! ```no_run
//! use liseg_engine::predict::{FolderOptions, Model, find_images, predict_cases};
//! use liseg_engine::{RunConfig, RunFolder, TrainOptions, train};
//! use liseg_nn::{DeviceChoice, Precision};
//! use std::path::Path;
//!
//! let config = RunConfig::new("preprocessed");
//! let options = TrainOptions { folder: "run".into(), resume: false };
//! train(&config, &options, &mut |event| println!("{event:?}"), &|| false)?;
//!
//! let run = RunFolder::open(Path::new("run"))?;
//! let mut model = Model::of_run(&run, DeviceChoice::Auto.resolve()?, Precision::Auto)?;
//! let masks = Path::new("masks");
//! let images = find_images(Path::new("images"), Some(masks))?.images;
//! let outcome = predict_cases(&mut model, &images, masks, FolderOptions::default(), &mut |_| true)?;
//! assert!(outcome.failed.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was copied")
)]

mod batches;
mod config;
mod error;
pub mod evaluate;
pub mod experiment;
mod lock;
pub mod mistakes;
mod network;
pub mod predict;
mod run;
mod showcase;
mod state;
mod tensorboard;
mod trainer;
mod validation;
mod watch;

pub use config::{
    ArchitectureName, LayerRate, LoaderSettings, NetworkConfig, OnTrouble, RunConfig,
};
pub use config::{TrainingConfig, ValidationConfig};
pub use error::{Error, Result};
pub use run::{CaseRoles, EpochRecord, RunFolder, StepSeconds};
pub use tensorboard::EventWriter;
pub use trainer::{BuildStrategy, TrainEvent, TrainOptions, TrainOutcome, train, train_own};
