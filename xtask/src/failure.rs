//! The one error of this command: what went wrong, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// What went wrong and, where known, what the reader can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    help: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// What went wrong, for use inside another sentence.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// A failed file operation: `doing` reads as in "cannot create".
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format!("{doing} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {}", help.replace('\n', "\n        ")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_indented_below_what_went_wrong() {
        let failure = Failure::new("no Python").with_help("install it\nor set LIBTORCH");
        assert_eq!(
            failure.to_string(),
            "error: no Python\n  help: install it\n        or set LIBTORCH"
        );
    }
}
