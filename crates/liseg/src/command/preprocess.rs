//! `liseg preprocess`.

use super::failure::chain;
use super::plan::{Wishes, read_or_make};
use super::{Failure, Outcome, Result, Shared, print_json, progress, say, terminal};
use liseg::data::{
    Dataset, PreprocessOptions, Report, StoredPrecision, available_memory, preprocess_dataset,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Bring a dataset's images to the plan's grid, ready for training.
///
/// Interrupted or repeated, it goes on where it was: cases whose files and plan are unchanged are
/// left as they are. A case that cannot be used is named with its reason; the others are finished, and
/// the exit status is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Preprocess {
    /// An nnU-Net raw dataset.
    dataset: PathBuf,
    /// Folder for the preprocessed cases.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A plan made by `liseg plan`; when absent, that of an earlier run into the same folder, or one
    /// made from the cases that can be read.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "spacing", "patch", "normalization", "normalization_for", "network", "pretrained_grid",
    ])]
    plans: Option<PathBuf>,
    /// Cases in work at a time, at most; fewer where memory does not suffice.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Memory for the cases in work, in GB; three quarters of what is free when absent.
    #[arg(long, value_name = "GB", value_parser = parse_gigabytes)]
    memory: Option<u64>,
    /// How intensities are stored: f32, or f16 for half the disk space.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    precision: StoredPrecision,
    /// Preprocess every case again, finished or not.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    wishes: Wishes,
}

impl Preprocess {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let dataset = Dataset::open(&self.dataset)?;
        refuse_raw_folders(&self.out, &self.dataset)?;
        for oddity in dataset.oddities() {
            tracing::warn!("{oddity}");
        }
        let plans = self.plans.as_deref();
        let plan = read_or_make(plans, &dataset, &self.wishes, &self.out, shared)?;
        let options = PreprocessOptions {
            jobs: self.jobs.into(),
            resume: !self.again,
            precision: self.precision,
            memory: self.memory.or_else(|| Some(available_memory()? / 4 * 3)),
        };
        let bar = progress::bar(shared, 0, "preprocessing");
        let report = preprocess_dataset(&dataset, &plan, &self.out, &options, |event| {
            bar.set_length(event.total as u64);
            bar.set_position(event.done as u64);
        });
        bar.finish_and_clear();
        let report = report?;
        for (case, message) in &report.warnings {
            tracing::warn!("{case}: {message}");
        }
        for (case, error) in &report.failed {
            terminal::complain(&format!("{case}: {}", chain(error)));
        }
        self.print(&report, shared);
        if report.written.is_empty() && report.unchanged.is_empty() {
            return Err(Failure::work("no case could be preprocessed"));
        }
        Ok(if report.failed.is_empty() {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }

    fn print(&self, report: &Report, shared: &Shared) {
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
            say!(
                "{} written, {} unchanged, {} failed; cases in {}",
                report.written.len(),
                report.unchanged.len(),
                report.failed.len(),
                self.out.display()
            );
        }
    }
}

/// Refuses a folder in which preprocessed cases would lie among the raw ones.
fn refuse_raw_folders(out: &Path, dataset: &Path) -> Result<()> {
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let there = absolute
        .ancestors()
        .find_map(|part| part.canonicalize().ok());
    let raw = ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"];
    let inside = |name: &str| {
        let raw = dataset.join(name).canonicalize();
        raw.is_ok_and(|raw| there.as_ref().is_some_and(|there| there.starts_with(raw)))
    };
    if dataset.canonicalize().ok() == absolute.canonicalize().ok() {
        return Err(Failure::usage(format!(
            "--out {}: it is the dataset itself; name a folder elsewhere",
            out.display()
        )));
    }
    match raw.into_iter().find(|name| inside(name)) {
        Some(name) => Err(Failure::usage(format!(
            "--out {}: it lies in {name} of the dataset; name a folder elsewhere",
            out.display()
        ))),
        None => Ok(()),
    }
}

fn parse_gigabytes(text: &str) -> std::result::Result<u64, String> {
    match text.parse::<f64>() {
        Ok(gigabytes) if gigabytes.is_finite() && gigabytes > 0.0 => Ok((gigabytes * 1e9) as u64),
        _ => Err("expected gigabytes, as in 8 or 0.5".to_owned()),
    }
}
