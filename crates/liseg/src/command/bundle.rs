//! `liseg bundle`.

use super::{Failure, Outcome, Result, Shared, outputs, print_json, say};
use liseg::engine::predict::{read_bundle, write_bundle};
use serde_json::json;
use std::path::PathBuf;

/// Put a model into one file that predicts anywhere: weights, plan, post-processing, hashes.
///
/// `liseg predict --model model.liseg` needs nothing else. A bundle that was changed or damaged is
/// refused. Give several runs (folds, seeds) for an ensemble.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// Runs made by `liseg train`, or checkpoints of them.
    #[arg(required_unless_present = "check", value_name = "RUN|FILE")]
    sources: Vec<PathBuf>,
    /// Where to write the bundle.
    #[arg(short, long, value_name = "FILE", default_value = "model.liseg")]
    output: PathBuf,
    /// Check a bundle and say what is in it, instead of making one.
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["sources", "output"])]
    check: Option<PathBuf>,
}

impl Bundle {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let file = self.check.as_ref().unwrap_or(&self.output);
        if self.check.is_none() {
            outputs::check(&[("--output", Some(file))], &self.sources)?;
            write_bundle(&self.sources, file)?;
        }
        if self.check.is_some() && file.is_dir() {
            let folder = file.display();
            return Err(Failure::usage(format!(
                "{folder} is a folder; --check takes a .liseg file"
            )));
        }
        let (contents, digest) = read_bundle(file)?;
        let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
        if shared.json {
            print_json(&json!({
                "bundle": file,
                "digest": digest,
                "bytes": bytes,
                "members": contents.members.len(),
                "names": contents.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
                "postprocessing": contents.postprocessing,
            }));
        } else {
            say!(
                "{}: {} model(s), {:.1} MB, post-processing: {}\ndigest {digest}",
                file.display(),
                contents.members.len(),
                bytes as f64 / 1e6,
                contents.postprocessing
            );
        }
        Ok(Outcome::Done)
    }
}
