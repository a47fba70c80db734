//! A grid of runs from one file, and one table of what became of them.
//!
//! An experiment names datasets, settings that all runs share, variants, seeds, label budgets, folds
//! and further axes; [`Experiment::plan`] makes runs of them, [`run_experiment`] trains, predicts and
//! judges what is not done yet, and [`ResultTable`] compares every method with its control,
//! patient by patient, by phase and in and out of distribution.

mod config;
mod event;
mod execute;
mod grid;
mod judge;
mod markdown;
mod overview;
mod prepare;
mod table;

pub use config::{
    Axis, AxisValue, Cascade, Control, DatasetSource, EvaluateOn, EvaluationSettings, Experiment,
    PaperFigure, Variant,
};
pub use event::ExperimentEvent;
pub use execute::{complete_run, result_table, run_experiment};
pub use grid::{ExperimentPlan, Method, PlannedRun};
pub use overview::Overview;
pub use prepare::{Prepared, prepare, reopen};
pub use table::{Change, Level, ResultTable, Row, Versus};
