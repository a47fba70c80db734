//! `liseg verify`.

use super::{Failure, Outcome, Result, Shared, print_json, progress, repair, say};
use liseg::data::{CaseStore, Dataset, Finding, Layout, Severity};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Check every case of a dataset: all that is wrong at once, before long work starts.
///
/// Reads every file: whether it can be read whole, image and label lie on one grid, label values
/// are declared, voxels are finite, masks and images are not empty. Errors make the exit status 1;
/// warnings do not. Of preprocessed cases the checksums are compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// An nnU-Net raw dataset, a collection in the layout of LiQA or ATLAS 2023, or preprocessed cases.
    dataset: PathBuf,
    /// The layout, nnunet, liqa or atlas; told by the files when absent.
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Write a copy with repaired headers and without NaN voxels into this folder, which must not
    /// exist or be empty, and check the copy. The dataset itself is never changed.
    #[arg(long, value_name = "DIR")]
    fix: Option<PathBuf>,
    /// Read headers only; seconds instead of minutes on large datasets.
    #[arg(long)]
    headers_only: bool,
}

impl Verify {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        if self.dataset.is_file() {
            let file = self.dataset.display();
            return Err(Failure::work(format!(
                "{file} is a file; expected the folder of a dataset"
            )));
        }
        if !self.dataset.is_dir() {
            let folder = self.dataset.display();
            return Err(Failure::work(format!("there is no folder {folder}")));
        }
        if self.dataset.join("store.json").is_file() {
            if self.fix.is_some() {
                return Err(Failure::usage(
                    "--fix repairs datasets; make preprocessed cases anew with `liseg preprocess`",
                ));
            }
            return self.store(shared);
        }
        let layout = self.layout.or_else(|| Layout::detect(&self.dataset));
        let layout = layout.unwrap_or(Layout::Nnunet);
        let mut dataset = layout.open(&self.dataset)?;
        let repaired = match &self.fix {
            Some(folder) => {
                let spinner = progress::spinner(shared, "repairing");
                let repaired = repair::copy(&dataset, &self.dataset, folder);
                spinner.finish_and_clear();
                let repaired = repaired?;
                dataset = layout.open(folder)?;
                Some(repaired)
            }
            None => None,
        };
        let spinner = progress::spinner(shared, "checking");
        let findings = if self.headers_only {
            dataset.check_headers()
        } else {
            dataset.check()
        };
        spinner.finish_and_clear();
        let errors = count(&findings, Severity::Error);
        if shared.json {
            let files = repaired.iter().flatten();
            let files: Vec<Value> = files.map(Value::from).collect();
            print_json(&json!({
                "cases": dataset.cases().len(),
                "errors": errors,
                "warnings": count(&findings, Severity::Warning),
                "findings": findings,
                "repaired": repaired.is_some().then_some(files),
            }));
        } else {
            if let Some(repaired) = &repaired {
                repair::print(repaired, shared);
            }
            print(&dataset, &findings, shared);
        }
        let failed = repaired.is_some_and(|files| files.iter().any(repair::File::failed));
        Ok(if errors == 0 && !failed {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

impl Verify {
    /// Compares the checksums of preprocessed cases.
    fn store(&self, shared: &Shared) -> Result<Outcome> {
        let store = CaseStore::open(&self.dataset)?;
        let spinner = progress::spinner(shared, "checking");
        let damaged = store.damaged();
        spinner.finish_and_clear();
        let (cases, errors) = (store.cases().len(), damaged.len());
        let messages: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        if shared.json {
            let findings = messages
                .iter()
                .map(|message| json!({"severity": "error", "message": message}));
            print_json(&json!({
                "cases": cases,
                "errors": errors,
                "warnings": 0,
                "findings": findings.collect::<Vec<_>>(),
            }));
        } else {
            for message in messages {
                say!("error    {message}");
            }
            say!("{cases} preprocessed cases, {errors} damaged");
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
            say!("{word:<8} {}", line(finding));
        }
    }
    say!(
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
