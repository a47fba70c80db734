//! From an image file to a mask in the same geometry.

mod export;
mod folder;
mod gaussian;
mod model;
mod postprocess;
mod sliding_window;

pub use export::{labels_on_source_grid, probabilities_on_source_grid};
pub(crate) use folder::stem;
pub use folder::{FolderOptions, FolderOutcome, PredictEvent, image_files, predict_files};
pub use gaussian::importance_map;
pub use model::{Model, Prediction};
pub(crate) use model::{describe_model, save_predictors};
pub use postprocess::Postprocessing;
pub use sliding_window::{SlidingWindow, Tta, tile_starts};
