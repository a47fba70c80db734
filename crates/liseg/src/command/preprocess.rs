//! `liseg preprocess`.

use super::failure::chain;
use super::plan::{Wishes, read_or_make};
use super::{Failure, Outcome, Result, Shared, print_json, progress};
use liseg::data::{Dataset, preprocess_dataset};
use serde_json::json;
use std::path::PathBuf;

/// Bring a dataset's images to the plan's grid, ready for training.
///
/// Interrupted or repeated, it goes on where it was: cases whose files and plan are unchanged are
/// left as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Preprocess {
    /// An nnU-Net raw dataset.
    dataset: PathBuf,
    /// Folder for the preprocessed cases.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A plan made by `liseg plan`; one is made from the dataset when absent.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spacing", "patch", "normalization"])]
    plans: Option<PathBuf>,
    /// Cases in work at a time; each needs memory for a few copies of its volume.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    #[command(flatten)]
    wishes: Wishes,
}

impl Preprocess {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let dataset = Dataset::open(&self.dataset)?;
        let plan = read_or_make(self.plans.as_deref(), &dataset, &self.wishes, shared)?;
        let bar = progress::bar(shared, 0, "preprocessing");
        let report = preprocess_dataset(
            &dataset,
            &plan,
            &self.out,
            self.jobs.into(),
            true,
            |event| {
                bar.set_length(event.total as u64);
                bar.set_position(event.done as u64);
            },
        );
        bar.finish_and_clear();
        let report = report?;
        for (case, error) in &report.failed {
            eprintln!("liseg: {case}: {}", chain(error));
        }
        if shared.json {
            let failed: Vec<_> = report
                .failed
                .iter()
                .map(|(case, error)| json!({"case": case, "reason": chain(error)}))
                .collect();
            print_json(&json!({
                "written": report.written,
                "unchanged": report.unchanged,
                "failed": failed,
            }));
        } else {
            println!(
                "{} written, {} unchanged, {} failed; cases in {}",
                report.written.len(),
                report.unchanged.len(),
                report.failed.len(),
                self.out.display()
            );
        }
        if report.written.is_empty() && report.unchanged.is_empty() {
            return Err(Failure::work("no case could be preprocessed"));
        }
        Ok(if report.failed.is_empty() {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}
