//! `liseg report`.

use super::named::{Named, named};
use super::{Failure, Outcome, Result, Shared, print_json, say};
use liseg::report::{EvaluationSpec, ReportSpec, RunSpec, write_report};
use serde_json::json;
use std::path::{Path, PathBuf};

/// One self-contained HTML page about runs and evaluations.
///
/// Learning curves of runs; of evaluations tables, distributions, failures, and overlays of the
/// best, median and worst cases. The page loads nothing from elsewhere. Pictures lie beside it as
/// PNG, and every value of every case in `cases.csv`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportVerb {
    /// Run folders and metrics files of `liseg evaluate --out`, each as PATH or NAME=PATH.
    #[arg(required = true, value_name = "RUN|METRICS.json")]
    sources: Vec<String>,
    /// Folder for the page and what belongs to it.
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
    /// Folder with the images of the evaluated cases, for the overlays.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Heading of the page.
    #[arg(long, value_name = "TEXT", default_value = "LiSeg report")]
    title: String,
    /// How many of the worst cases of each evaluation are pictured.
    #[arg(long, value_name = "N", default_value_t = 3)]
    worst: usize,
}

impl ReportVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        if let Some(folder) = self.images.as_ref().filter(|folder| !folder.is_dir()) {
            let folder = folder.display();
            return Err(Failure::usage(format!(
                "--images {folder}: there is no such folder"
            )));
        }
        let mut spec = ReportSpec {
            title: self.title.clone(),
            summary: vec![("LiSeg".into(), env!("CARGO_PKG_VERSION").into())],
            worst_cases: self.worst,
            ..ReportSpec::default()
        };
        for source in named(&self.sources)? {
            self.add(&mut spec, source)?;
        }
        let page = write_report(&spec, &self.out)?;
        if let Some(folder) = self.images.as_ref().filter(|_| !has_pictures(&self.out)) {
            let folder = folder.display();
            tracing::warn!("no picture could be drawn of the images in {folder}");
        }
        if shared.json {
            print_json(&json!({ "report": page }));
        } else {
            say!("open {} in a browser", page.display());
        }
        Ok(Outcome::Done)
    }

    fn add(&self, spec: &mut ReportSpec, Named { name, path }: Named) -> Result<()> {
        if path.is_dir() {
            let metrics_file = path.join("metrics.jsonl");
            if !metrics_file.is_file() {
                return Err(Failure::work(format!(
                    "{}: no metrics.jsonl; expected a folder made by `liseg train`",
                    path.display()
                )));
            }
            spec.runs.push(RunSpec { name, metrics_file });
        } else {
            spec.evaluations.push(EvaluationSpec {
                name,
                metrics_file: path,
                images: self.images.clone().into_iter().collect(),
            });
        }
        Ok(())
    }
}

fn has_pictures(report: &Path) -> bool {
    let overlays = std::fs::read_dir(report.join("overlays"));
    overlays.is_ok_and(|mut files| files.next().is_some())
}
