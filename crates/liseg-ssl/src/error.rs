//! What can go wrong in a training step.

/// Result of a strategy's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a training step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A network or an optimiser failed.
    #[error(transparent)]
    Network(#[from] liseg_nn::Error),
    /// The batch lacks a part that the strategy asked for.
    #[error("{strategy} needs {needed} in every batch; this one has none")]
    Batch {
        /// The strategy.
        strategy: &'static str,
        /// What is missing.
        needed: &'static str,
    },
    /// The strategy cannot start as configured.
    #[error("{strategy}: {reason}")]
    Start {
        /// The strategy.
        strategy: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl From<liseg_nn::tch::TchError> for Error {
    fn from(error: liseg_nn::tch::TchError) -> Self {
        Self::Network(error.into())
    }
}

impl From<Error> for liseg_nn::Error {
    /// For code that speaks of networks only.
    fn from(error: Error) -> Self {
        match error {
            Error::Network(error) => error,
            other => Self::Weights(other.to_string()),
        }
    }
}
