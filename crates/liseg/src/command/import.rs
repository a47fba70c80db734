//! `liseg import`.

use super::failure::chain;
use super::occupied::refuse_occupied;
use super::{Outcome, Result, Shared, print_json, progress, say, terminal};
use liseg::data::{ImportOptions, ImportReport, Layout, Placement, Remark, RemarkKind, import};
use serde_json::json;
use std::path::PathBuf;

/// Bring LiQA, ATLAS or another nnU-Net dataset into nnU-Net's raw layout with a list of cases.
///
/// LiQA (CARE-Liver): vendor folders, one file per phase; every phase becomes a case of its own.
/// ATLAS 2023: liver and tumour become one label, phases come from the patients' table. nnU-Net
/// datasets of version 1 or 2: several channels become cases, --foreground makes a liver of their
/// labels. Files of which nothing changes are copied or linked as they are. `cases.json` says
/// patient, phase, vendor, label, split and source of every case; a split that comes with the data
/// becomes `splits_final.json`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// How the source is laid out: liqa, atlas or nnunet.
    layout: Layout,
    /// The folder of the collection.
    source: PathBuf,
    /// Folder for the dataset; it must not exist or be empty.
    #[arg(long, value_name = "DATASET")]
    out: PathBuf,
    /// How unchanged files come to their place: copy, hardlink or symlink.
    #[arg(long, value_name = "HOW", default_value = "copy")]
    place: Placement,
    /// Labels that make up the liver, by name or value, as in liver,tumour; all others become
    /// background.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    foreground: Vec<String>,
    /// Name of the dataset in dataset.json.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write dataset.json in nnU-Net's version 1.
    #[arg(long)]
    version_1: bool,
}

impl Import {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        refuse_occupied(&self.out)?;
        let survey = self.layout.survey(&self.source)?;
        let bar = progress::bar(shared, survey.cases.len() as u64, "importing");
        let options = ImportOptions {
            placement: self.place,
            foreground: self.foreground.clone(),
            name: self.name.clone(),
            version_1: self.version_1,
        };
        let report = import(survey, &self.out, &options, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let report = report?;
        for (case, error) in &report.failed {
            terminal::complain(&format!("{case}: {}", chain(error)));
        }
        if shared.json {
            self.print_json(&report);
        } else {
            self.print(&report, shared);
        }
        Ok(if report.failed.is_empty() {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }

    fn print_json(&self, report: &ImportReport) {
        let failed: Vec<_> = report
            .failed
            .iter()
            .map(|(case, error)| json!({"case": case, "reason": chain(error)}))
            .collect();
        print_json(&json!({
            "folder": self.out,
            "labelled": report.labelled,
            "unlabelled": report.unlabelled,
            "test": report.test,
            "remarks": report.remarks,
            "split": report.split,
            "failed": failed,
        }));
    }

    fn print(&self, report: &ImportReport, shared: &Shared) {
        // A few of each kind tell what happened; -v tells all.
        let most = if shared.verbose > 0 { usize::MAX } else { 5 };
        for kind in [
            RemarkKind::Merged,
            RemarkKind::Renamed,
            RemarkKind::Rewritten,
            RemarkKind::Skipped,
            RemarkKind::Noted,
        ] {
            let of_kind: Vec<&Remark> = report.remarks.iter().filter(|r| r.kind == kind).collect();
            for remark in of_kind.iter().take(most) {
                say!(
                    "{:<9} {}: {}",
                    word(kind),
                    remark.file.display(),
                    remark.message
                );
            }
            if let Some(more) = of_kind.len().checked_sub(most).filter(|&n| n > 0) {
                say!("{:<9} and {more} more; -v lists all", word(kind));
            }
        }
        if let Some(split) = &report.split {
            say!(
                "split     {} train, {} validate, as the source has it",
                split.training.len(),
                split.validation.len()
            );
        }
        say!(
            "{} labelled, {} unlabelled, {} test cases in {}; {} failed",
            report.labelled,
            report.unlabelled,
            report.test,
            self.out.display(),
            report.failed.len()
        );
    }
}

fn word(kind: RemarkKind) -> &'static str {
    match kind {
        RemarkKind::Merged => "merged",
        RemarkKind::Renamed => "renamed",
        RemarkKind::Rewritten => "rewritten",
        RemarkKind::Skipped => "skipped",
        _ => "note",
    }
}
