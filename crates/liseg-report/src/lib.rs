//! What runs and evaluations end with: one self-contained HTML page.
//!
//! [`write_report`] reads the `metrics.jsonl` of training runs and the `metrics.json` of
//! evaluations and writes
//!
//! - `report.html`: comparison with intervals, paired tests, groups (phase, vendor), distributions,
//!   learning curves, overlays of the best, the median and the worst cases, uncertainty against error
//!   where predictions come with an `uncertainty.csv`, every case, every failure. Style, charts (SVG)
//!   and pictures (PNG) are inside; the page loads nothing and runs no script
//! - `overlays/*.png`: the overlays once more, with captions
//! - `cases.csv`: one row per evaluation, case and label, with every measure
//!
//! The same input gives the same bytes: the page carries no date unless the summary does.
//!
//! # Example
//! ```
//! use liseg_report::{EvaluationSpec, ReportSpec, RunSpec, write_report};
//! # let folder = std::env::temp_dir().join(format!("liseg-report-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # liseg_metrics::Report::default().write_json(&folder.join("metrics.json"))?;
//! # std::fs::write(folder.join("metrics.jsonl"), "{\"epoch\": 0, \"terms\": {\"loss\": 1.5}}\n")?;
//!
//! let spec = ReportSpec {
//!     title: "Ten labelled livers".into(),
//!     summary: vec![("Training cases".into(), "10 labelled, 40 unlabelled".into())],
//!     runs: vec![RunSpec { name: "cps".into(), metrics_file: folder.join("metrics.jsonl") }],
//!     evaluations: vec![EvaluationSpec {
//!         name: "cps".into(),
//!         metrics_file: folder.join("metrics.json"),
//!         images: Vec::new(),
//!     }],
//!     worst_cases: 2,
//!     ..ReportSpec::default()
//! };
//! let page = write_report(&spec, &folder.join("report"))?;
//! assert!(std::fs::read_to_string(page)?.contains("Ten labelled livers"));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod axis;
mod boxes;
mod chart;
mod curves;
mod doubt;
mod error;
mod escape;
mod evaluation;
mod file;
mod overlay;
mod page;
mod run;
mod significance;
mod table;

pub use error::{Error, Result};

use std::path::{Path, PathBuf};

/// What a report is made of. Runs and evaluations may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReportSpec {
    /// The heading of the page.
    pub title: String,
    /// Key facts, shown at the top: name and value, such as `Device` and `NVIDIA H200`.
    pub summary: Vec<(String, String)>,
    /// Tables that come first, such as the results of an experiment.
    pub tables: Vec<TableSpec>,
    /// The training runs whose learning curves are shown.
    pub runs: Vec<RunSpec>,
    /// The evaluations that are compared, in the order of the tables.
    pub evaluations: Vec<EvaluationSpec>,
    /// How many of the worst cases of each evaluation are pictured, beside the best and the median.
    pub worst_cases: usize,
}

/// A table of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSpec {
    /// What it shows.
    pub caption: String,
    /// The headings of its columns.
    pub columns: Vec<String>,
    /// How many of the first columns say what a row is about; figures follow them.
    pub names: usize,
    /// The rows, a text for each column; what follows a line break is shown small.
    pub rows: Vec<Vec<String>>,
    /// What has to be known to read it.
    pub note: String,
    /// Whether it is shown on demand alone.
    pub folded: bool,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// What the page calls it.
    pub name: String,
    /// Its `metrics.jsonl`: one JSON object per epoch. Fields that are absent or unknown are no
    /// error; an epoch that is told twice, as after a resumed run, counts as last told.
    pub metrics_file: PathBuf,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationSpec {
    /// What the page calls it.
    pub name: String,
    /// Its `metrics.json`, written by [`liseg_metrics::Report::write_json`]. The files named in it
    /// are looked for from the working folder, then from the folder of this file.
    pub metrics_file: PathBuf,
    /// Folders with the images, `<case>_0000.nii.gz` or `<case>.nii.gz`, where `<case>` is the
    /// name of the reference file. Without one there are no overlays.
    pub images: Vec<PathBuf>,
}

/// Writes `report.html`, `overlays/*.png` and `cases.csv` into `folder`, which is made where needed,
/// and returns the path of the page.
///
/// A picture that cannot be drawn is no error: the page says which and why.
///
/// # Errors
/// [`Error::Run`], [`Error::Record`] or [`Error::Evaluation`] for a file that cannot be read, before
/// anything is written; [`Error::Write`].
pub fn write_report(spec: &ReportSpec, folder: &Path) -> Result<PathBuf> {
    let runs = spec
        .runs
        .iter()
        .map(run::Run::read)
        .collect::<Result<Vec<_>>>()?;
    let evaluations = spec.evaluations.iter().map(evaluation::Evaluation::read);
    let evaluations = evaluations.collect::<Result<Vec<_>>>()?;

    let overlays = folder.join("overlays");
    std::fs::create_dir_all(&overlays).map_err(Error::write(&overlays))?;
    let mut galleries = Vec::new();
    for (index, evaluation) in evaluations.iter().enumerate() {
        galleries.push(overlay::gallery(
            evaluation,
            index,
            spec.worst_cases,
            &overlays,
        )?);
    }
    file::write_cases(&folder.join("cases.csv"), &evaluations)?;
    let page = folder.join("report.html");
    let html = page::html(spec, &runs, &evaluations, &galleries);
    file::write(&page, html.as_bytes())?;
    Ok(page)
}
