//! `liseg mistakes`.

use super::named::{Named, named};
use super::{Failure, Outcome, Result, Shared, print_json, progress, say};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use liseg::engine::mistakes::{CaseMistakes, MistakesReport, MistakesSettings, mistakes};
use std::path::PathBuf;

/// How sure is a network of what it has wrong? What a threshold on pseudo labels lets through.
///
/// Takes the maps that `liseg predict --probabilities` wrote. Foreground is where a probability is above
/// one half; a network is sure where its confidence, the probability of its own answer, reaches the threshold.
/// Methods that learn from their own answers believe what is sure: a mistake that a network is sure of is one that it
/// would teach itself. A case without a map is reported, and left out of the sums.
#[derive(Debug, clap::Args)]
pub(crate) struct MistakesVerb {
    /// Folder of maps, one `<case>_probability_<label>.nii.gz` for each reference.
    #[arg(long, value_name = "DIR")]
    probabilities: PathBuf,
    /// Folder of reference masks; every one of them counts.
    #[arg(long, value_name = "DIR")]
    references: PathBuf,
    /// Folders of other networks' maps: how much of what is wrong do these have wrong too?
    #[arg(long, value_name = "NAME=DIR", num_args = 1..)]
    others: Vec<String>,
    /// The label to judge.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    label: u8,
    /// The confidence from which on a network is sure, 0.5 to 1; weak-to-strong believes 0.95.
    #[arg(
        long,
        value_name = "CONFIDENCE",
        default_value_t = 0.95,
        allow_negative_numbers = true
    )]
    threshold: f64,
}

impl MistakesVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        if !(0.5..=1.0).contains(&self.threshold) {
            return Err(Failure::usage(format!(
                "--threshold {}: expected a confidence from 0.5 to 1",
                self.threshold
            )));
        }
        let others = named(&self.others)?;
        let settings = MistakesSettings {
            probabilities: self.probabilities.clone(),
            others: others.iter().map(|other| other.path.clone()).collect(),
            references: self.references.clone(),
            label: self.label,
            threshold: self.threshold,
        };
        let bar = progress::bar(shared, 0, "counting");
        let report = mistakes(&settings, &|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let report = report?;
        if shared.json {
            print_json(&self.as_json(&report, &others));
        } else {
            self.print(&report, &others);
        }
        Ok(if report.missing.is_empty() {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }

    fn as_json(&self, report: &MistakesReport, others: &[Named]) -> serde_json::Value {
        serde_json::json!({
            "label": self.label,
            "threshold": self.threshold,
            "others": others.iter().map(|other| &other.name).collect::<Vec<_>>(),
            "cases": report.cases,
            "all": report.total(),
            "missing": report.missing,
        })
    }

    fn print(&self, report: &MistakesReport, others: &[Named]) {
        let mut heads = vec![
            "case".to_owned(),
            "wrong, % of the reference".into(),
            format!("of it sure (≥ {})", self.threshold),
            "marked wrongly".into(),
            "of it sure".into(),
            "missed".into(),
            "of it sure".into(),
        ];
        heads.extend(
            others
                .iter()
                .map(|other| format!("wrong in {} too", other.name)),
        );
        let columns = heads.len();
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(heads);
        for case in report.cases.iter().chain([&report.total()]) {
            table.add_row(row(case));
        }
        for i in 1..columns {
            if let Some(column) = table.column_mut(i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        say!("{table}");
        for (case, why) in &report.missing {
            say!("missing: {case}: {why}");
        }
    }
}

fn row(case: &CaseMistakes) -> Vec<String> {
    let found = &case.mistakes;
    let percent = |part: u64, whole: u64| match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    };
    let mut row = vec![
        case.case.clone(),
        percent(found.all(), found.referenced),
        percent(found.sure(), found.all()),
        percent(found.false_positive, found.referenced),
        percent(found.sure_false_positive, found.false_positive),
        percent(found.false_negative, found.referenced),
        percent(found.sure_false_negative, found.false_negative),
    ];
    row.extend(
        case.shared
            .iter()
            .map(|&shared| percent(shared, found.all())),
    );
    row
}
