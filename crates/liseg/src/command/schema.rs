//! `liseg schema`.

use super::{Outcome, print_json};
use liseg::engine::RunConfig;
use liseg::engine::experiment::Experiment;

/// Print the JSON schema of a config or of an experiment's file, for editors.
///
/// Editors check and complete TOML by it: `liseg schema run > run.schema.json`, and as the first line of the
/// config `#:schema ./run.schema.json` (Taplo, Even Better TOML).
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaVerb {
    /// Of which file.
    #[arg(value_enum)]
    of: FileKind,
}

/// A kind of file that people write.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum FileKind {
    /// The config of `liseg train`.
    Run,
    /// The file of `liseg experiment`.
    Experiment,
}

impl FileKind {
    /// The schema, with the documentation of every field.
    pub(crate) fn schema(self) -> serde_json::Value {
        match self {
            Self::Run => schemars::schema_for!(RunConfig),
            Self::Experiment => schemars::schema_for!(Experiment),
        }
        .into()
    }
}

impl SchemaVerb {
    pub(crate) fn run(&self) -> Outcome {
        print_json(&self.of.schema());
        Outcome::Done
    }
}
