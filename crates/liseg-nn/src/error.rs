//! What can go wrong between arrays, files and libtorch.

use std::path::PathBuf;

/// Result of an operation on networks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between arrays, files and libtorch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation: what it said, in a line.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A device was asked for that this machine or this libtorch does not offer.
    #[error(
        "device `{asked}` is not available: {reason}; use --device cpu, or auto to take what there is"
    )]
    Device {
        /// The device as written by the user.
        asked: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A device name that cannot be read.
    #[error("`{0}` is no device; expected auto, cpu, cuda or cuda:N")]
    DeviceName(String),
    /// A tensor or array has the wrong shape.
    #[error("{what} has shape {found:?}; expected {expected}")]
    Shape {
        /// What was measured.
        what: String,
        /// What would have been right.
        expected: String,
        /// The shape found.
        found: Vec<i64>,
    },
    /// Named tensors do not fit the parameters they should fill.
    #[error("the weights do not fit the network: {0}")]
    Weights(String),
    /// Two parameters were given the same name.
    #[error("parameter `{0}` is defined twice")]
    DuplicateParameter(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint file is damaged or of another kind.
    #[error("{path}: {reason}", path = .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A setting that cannot be used.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

impl From<tch::TchError> for Error {
    /// libtorch appends a C++ backtrace to its messages; people need the first line.
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn libtorch_speaks_without_its_backtrace() {
        let refused = Tensor::from(1).f_reshape([2, 3]).unwrap_err();
        assert!(refused.to_string().contains('\n'), "{refused}");
        let error = Error::from(refused);
        let text = error.to_string();
        assert!(text.contains("shape '[2, 3]' is invalid"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        assert!(std::error::Error::source(&error).is_none());
    }
}
