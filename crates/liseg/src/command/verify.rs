//! `liseg verify`.

use super::{Failure, Outcome, Result, Shared, print_json, progress};
use liseg::data::{Dataset, Finding, Layout, Severity};
use serde_json::json;
use std::path::PathBuf;

/// Check every case of a dataset: all that is wrong at once, before long work starts.
///
/// Reads every file: whether it can be read whole, image and label lie on one grid, label values
/// are declared, voxels are finite, masks and images are not empty. Errors make the exit status 1;
/// warnings do not.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// An nnU-Net raw dataset, or a collection in the layout of LiQA or ATLAS 2023.
    dataset: PathBuf,
    /// The layout, nnunet, liqa or atlas; told by the files when absent.
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Read headers only; seconds instead of minutes on large datasets.
    #[arg(long)]
    headers_only: bool,
}

impl Verify {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        if !self.dataset.is_dir() {
            let folder = self.dataset.display();
            return Err(Failure::work(format!("there is no folder {folder}")));
        }
        let layout = self.layout.or_else(|| Layout::detect(&self.dataset));
        let dataset = layout.unwrap_or(Layout::Nnunet).open(&self.dataset)?;
        let spinner = progress::spinner(shared, "checking");
        let findings = if self.headers_only {
            dataset.check_headers()
        } else {
            dataset.check()
        };
        spinner.finish_and_clear();
        let errors = count(&findings, Severity::Error);
        if shared.json {
            print_json(&json!({
                "cases": dataset.cases().len(),
                "errors": errors,
                "warnings": count(&findings, Severity::Warning),
                "findings": findings,
            }));
        } else {
            print(&dataset, &findings, shared);
        }
        Ok(if errors == 0 {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

/// Errors first.
fn print(dataset: &Dataset, findings: &[Finding], shared: &Shared) {
    for severity in [Severity::Error, Severity::Warning] {
        let quiet = shared.quiet && severity == Severity::Warning;
        for finding in findings.iter().filter(|f| f.severity == severity && !quiet) {
            let word = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            println!("{word:<8} {}", line(finding));
        }
    }
    println!(
        "{} cases, {} errors, {} warnings",
        dataset.cases().len(),
        count(findings, Severity::Error),
        count(findings, Severity::Warning)
    );
}

/// A message of the reader names the file itself.
fn line(finding: &Finding) -> String {
    let file = finding.file.display().to_string();
    if finding.message.contains(&file) {
        finding.message.clone()
    } else {
        format!("{file}: {}", finding.message)
    }
}
