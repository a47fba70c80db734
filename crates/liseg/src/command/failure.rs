//! Why a verb failed, and what the process says about it.

use liseg_file::text::line;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a verb failed: one line, and whether the call or the work was wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    usage: bool,
}

impl Failure {
    /// The call was wrong: an option, a config, a device. Exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: one_line(&message.into()),
            usage: true,
        }
    }

    /// The work failed. Exit status 1.
    pub(crate) fn work(message: impl Into<String>) -> Self {
        Self {
            message: one_line(&message.into()),
            usage: false,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

/// An error with its causes, each behind a colon, unless it already tells them; one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    one_line(&text)
}

/// Errors quote files, which may hold anything.
fn one_line(text: &str) -> String {
    line(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl From<liseg::engine::Error> for Failure {
    fn from(error: liseg::engine::Error) -> Self {
        use liseg::engine::Error;
        let text = chain(&error);
        match error {
            Error::Config { .. }
            | Error::Setting { .. }
            | Error::Occupied { .. }
            | Error::Augment(_)
            | Error::Network(
                liseg::nn::Error::Device { .. }
                | liseg::nn::Error::DeviceName(_)
                | liseg::nn::Error::Setting { .. },
            )
            | Error::Strategy(liseg::ssl::Error::Start { .. }) => Self::usage(text),
            Error::Data(error) => error.into(),
            _ => Self::work(text),
        }
    }
}

impl From<liseg::nn::Error> for Failure {
    fn from(error: liseg::nn::Error) -> Self {
        liseg::engine::Error::from(error).into()
    }
}

impl From<liseg::data::Error> for Failure {
    fn from(error: liseg::data::Error) -> Self {
        use liseg::data::Error;
        let text = chain(&error);
        match error {
            Error::Setting { .. } | Error::Patch { .. } => Self::usage(text),
            _ => Self::work(text),
        }
    }
}

impl From<liseg::mri::Error> for Failure {
    fn from(error: liseg::mri::Error) -> Self {
        Self::work(chain(&error))
    }
}

impl From<liseg::metrics::Error> for Failure {
    fn from(error: liseg::metrics::Error) -> Self {
        use liseg::metrics::Error;
        let text = chain(&error);
        match error {
            Error::Level { .. } | Error::Setting { .. } => Self::usage(text),
            _ => Self::work(text),
        }
    }
}

impl From<liseg::phantom::Error> for Failure {
    fn from(error: liseg::phantom::Error) -> Self {
        use liseg::phantom::Error;
        let text = chain(&error);
        match error {
            Error::Config { .. } | Error::Name { .. } | Error::Occupied { .. } => Self::usage(text),
            _ => Self::work(text),
        }
    }
}

impl From<liseg::report::Error> for Failure {
    fn from(error: liseg::report::Error) -> Self {
        Self::work(chain(&error))
    }
}
