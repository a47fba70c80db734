//! From an image file to a mask in the same geometry.

mod accumulator;
mod adopt;
mod alarm;
mod bundle;
mod description;
mod ensemble;
mod export;
mod finish;
mod folder;
mod gaussian;
#[cfg(test)]
mod golden;
mod inputs;
mod locate;
mod memory;
mod model;
mod outputs;
mod part;
mod postprocess;
mod prepare;
mod records;
mod sliding_window;
mod tta;
mod tune;
mod uncertainty;

pub use accumulator::Storage;
pub use adopt::write_model;
pub use bundle::{BundleContents, BundleMember, read_bundle, write_bundle};
pub(crate) use description::{Description, Training, save_predictors};
pub use ensemble::Mean;
pub use export::{Outputs, labels_on_source_grid, probabilities_on_source_grid};
pub use finish::Prediction;
pub use folder::{
    CaseRecord, FolderOptions, FolderOutcome, PredictEvent, StageSeconds, predict_cases,
};
pub use gaussian::{Weighting, importance_map, importance_profile};
pub(crate) use inputs::stem;
pub use inputs::{FoundImages, ImageFile, find_images};
pub use memory::{CaseMemory, MemoryPlan, gibibytes};
pub use model::Model;
pub use part::Part;
pub use postprocess::{Postprocessing, Step};
pub use sliding_window::{SlidingWindow, padding, tile_starts};
pub use tta::Tta;
pub(crate) use tune::choose_on_cases;
pub use tune::{Decision, Trial, determine_largest_component, determine_postprocessing};
pub use uncertainty::UncertaintyScores;
