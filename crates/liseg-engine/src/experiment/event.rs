//! What an experiment tells whoever watches it.

use super::grid::PlannedRun;
use crate::TrainEvent;

/// What happens while an experiment runs.
#[derive(Debug)]
pub enum ExperimentEvent<'a> {
    /// A dataset is being made ready.
    Preparing {
        /// Its name.
        dataset: &'a str,
        /// What is being done.
        what: &'a str,
    },
    /// A run begins.
    Run {
        /// The run.
        run: &'a PlannedRun,
        /// Its place, from 0.
        index: usize,
        /// How many there are.
        total: usize,
        /// Whether its result is there already.
        finished: bool,
    },
    /// What the training of the current run tells.
    Training(TrainEvent<'a>),
    /// The masks of the current run are being made and judged.
    Judging,
}
