//! What can go wrong when a report is made.

use std::path::{Path, PathBuf};

/// Result of making a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong when a report is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metrics of a run cannot be read.
    #[error("cannot read {}, the metrics of run `{run}`", path.display())]
    Run {
        /// The name of the run.
        run: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line of the metrics of a run is no record of an epoch.
    #[error(
        "line {line} of {} is not the record of an epoch: {found}; expected a JSON object with a \
         number `epoch`, remove the line if the run was cut off while it wrote",
        path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        found: String,
    },
    /// The metrics of an evaluation cannot be read.
    #[error(
        "cannot read {}, the metrics of evaluation `{evaluation}`; expected the metrics.json that \
         `evaluate` writes",
        path.display()
    )]
    Evaluation {
        /// The name of the evaluation.
        evaluation: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the report cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}
