//! What can go wrong in a run.

use std::path::PathBuf;

/// Result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A config file cannot be used.
    #[error("{path}: {reason}", path = .path.display())]
    Config {
        /// The file, or the option that set the value.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A setting that cannot work with this data or machine.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting's name as in the config file.
        field: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing more can be written: the disk is full, or can only be read.
    #[error("{source}; {done} masks are whole: make room and go on with --resume")]
    Full {
        /// Masks that this call has written.
        done: usize,
        /// Which file could not be written, and why.
        source: Box<Error>,
    },
    /// A run folder is missing something, or holds another run.
    #[error("{path}: {reason}", path = .path.display())]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A run is there already.
    #[error(
        "{path}: a run is here already; resume it with --resume, or choose another --out",
        path = .path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Gradients stopped being numbers.
    #[error(
        "iteration {iteration}: the gradients of `{network}` are not finite; the batch held {cases}. \
         The weights were not changed; lower training.learning_rate, set precision = \"f32\", or look at these images"
    )]
    NotFinite {
        /// The step, counted from 0.
        iteration: u64,
        /// The network whose gradients broke.
        network: String,
        /// The cases of the batch.
        cases: String,
    },
    /// A sentinel saw trouble and the run was told to stop.
    #[error(
        "epoch {epoch}: {message}. The run is saved; training.on_trouble = \"warn\" goes on regardless"
    )]
    Trouble {
        /// The epoch, counted from 0.
        epoch: u64,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A dataset, plan or preprocessed case.
    #[error(transparent)]
    Data(#[from] liseg_data::Error),
    /// An augmentation setting or step.
    #[error(transparent)]
    Augment(#[from] liseg_augment::Error),
    /// An image file.
    #[error(transparent)]
    Mri(#[from] liseg_mri::Error),
    /// A measure.
    #[error(transparent)]
    Metrics(#[from] liseg_metrics::Error),
    /// A network, optimiser or checkpoint.
    #[error(transparent)]
    Network(#[from] liseg_nn::Error),
    /// A training strategy.
    #[error(transparent)]
    Strategy(#[from] liseg_ssl::Error),
    /// A volume or its geometry.
    #[error(transparent)]
    Volume(#[from] liseg_volume::Error),
}

impl From<liseg_nn::tch::TchError> for Error {
    fn from(error: liseg_nn::tch::TchError) -> Self {
        Self::Network(error.into())
    }
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
