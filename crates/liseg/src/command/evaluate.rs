//! `liseg evaluate`.

use super::{Failure, Outcome, Result, Shared, outputs, print_json, progress, say};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use liseg::engine::evaluate::{Evaluation, evaluate};
use liseg::metrics::{CaseMetrics, Convention, EmptyPolicy, Measure, Report, Settings, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Judge masks by references: Dice, Hausdorff distances and more, in millimetres.
///
/// Files are paired by name. A reference without a prediction counts as a miss, with Dice 0 and the
/// image's diagonal as distance; it is never left out of a mean. A case that fails does not end the
/// others; the exit status says that one did.
#[derive(Debug, clap::Args)]
pub(crate) struct Evaluate {
    /// Folder of predicted masks.
    #[arg(long, value_name = "DIR")]
    predictions: PathBuf,
    /// Folder of reference masks; every one of them counts.
    #[arg(long, value_name = "DIR")]
    references: PathBuf,
    /// Where to write all results, in the shape of nnU-Net's summary.json.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write one row per case and label.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// How surface distances are measured: monai, metrics-reloaded, medpy, medpy-0.4, chaos,
    /// simpleitk-contour, simpleitk-contour-face, simpleitk-filter or surface-distance.
    #[arg(long, value_name = "NAME", default_value = "monai")]
    convention: String,
    /// Within how many millimetres a surface point counts as right for NSD.
    #[arg(
        long,
        value_name = "MM",
        default_value_t = 3.0,
        allow_negative_numbers = true
    )]
    nsd_tolerance: f64,
    /// What counts where a mask is empty: worst (Dice 0, the image's diagonal; a case with an empty
    /// reference fails), exclude, both-empty-is-perfect, or a distance in mm.
    #[arg(long, value_name = "POLICY", default_value = "worst")]
    empty: String,
    /// Labels to judge, such as 1,2; those that each reference holds when absent.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..))]
    labels: Vec<u8>,
    /// A cases.json that gives patient, phase, vendor and other groups of each case, such as
    /// distribution; the one beside the folder of references is taken when there is one.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

impl Evaluate {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let convention = self.convention.parse::<Convention>();
        let convention =
            convention.map_err(|error| Failure::usage(format!("--convention: {error}")))?;
        if !(0.0..f64::INFINITY).contains(&self.nsd_tolerance) {
            return Err(Failure::usage(format!(
                "--nsd-tolerance {}: expected a number of mm, 0 or more",
                self.nsd_tolerance
            )));
        }
        let what = Evaluation {
            predictions: self.predictions.clone(),
            references: self.references.clone(),
            cases: self
                .cases
                .clone()
                .or_else(|| cases_beside(&self.references)),
            labels: self.labels.clone(),
            settings: Settings {
                convention,
                empty: empty_policy(&self.empty)?,
                nsd_tolerance_mm: self.nsd_tolerance,
                ..Settings::default()
            },
        };
        let (out, csv) = (self.out.as_deref(), self.csv.as_deref());
        let inputs: Vec<PathBuf> = what.cases.iter().cloned().collect();
        outputs::check(&[("--out", out), ("--csv", csv)], &inputs)?;
        let report = evaluate_with_progress(&what, shared)?;
        // First what needs no disk: masks may have taken hours to judge.
        if shared.json {
            print_json(&report.to_summary_json());
        } else {
            print_report(&report);
        }
        if let Some(file) = out {
            report.write_json(file)?;
        }
        if let Some(file) = csv {
            report.write_csv(file)?;
        }
        Ok(if report.missing.is_empty() {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

fn empty_policy(text: &str) -> Result<EmptyPolicy> {
    Ok(match text {
        "worst" => EmptyPolicy::Worst,
        "exclude" => EmptyPolicy::Exclude,
        "both-empty-is-perfect" => EmptyPolicy::BothEmptyIsPerfect,
        other => match other.parse() {
            Ok(mm) if (0.0..f64::INFINITY).contains(&mm) => EmptyPolicy::Value(mm),
            _ => {
                return Err(Failure::usage(format!(
                    "--empty {text}: expected worst, exclude, both-empty-is-perfect or a number of mm"
                )));
            }
        },
    })
}

pub(crate) fn evaluate_with_progress(what: &Evaluation, shared: &Shared) -> Result<Report> {
    let bar = progress::bar(shared, 0, "measuring");
    let report = evaluate(what, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(report?)
}

pub(crate) fn cases_beside(references: &Path) -> Option<PathBuf> {
    let parent = references.parent().filter(|p| !p.as_os_str().is_empty());
    let file = parent.unwrap_or(Path::new(".")).join("cases.json");
    file.is_file().then_some(file)
}

/// One row per case, then means and other statistics, of all cases and of groups.
pub(crate) fn print_report(report: &Report) {
    const SHOWN: [Measure; 6] = [
        Measure::Dice,
        Measure::Hd,
        Measure::Hd95,
        Measure::Assd,
        Measure::Nsd,
        Measure::VolumeErrorMl,
    ];
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let heads = [
        "Dice",
        "HD mm",
        "HD95 mm",
        "ASSD mm",
        "NSD",
        "volume error ml",
    ];
    table.set_header(["case", "label"].into_iter().chain(heads));
    let row = |case: String, label: &str, metrics: &CaseMetrics| {
        let mut row = vec![case, label.to_owned()];
        row.extend(SHOWN.iter().map(|m| number(metrics.get(*m), *m)));
        row
    };
    for case in &report.cases {
        for (label, metrics) in &case.metrics {
            table.add_row(row(name(&case.reference_file), label, metrics));
        }
    }
    for case in &report.missing {
        for (label, metrics) in &case.metrics {
            table.add_row(row(
                format!("{} (missing)", name(&case.reference_file)),
                label,
                metrics,
            ));
        }
    }
    let aggregates = report.aggregates();
    for (label, measures) in &aggregates {
        type Take = fn(&Summary) -> Option<f64>;
        let statistics: [(&str, Take); 3] = [
            ("mean", |s| s.mean),
            ("standard deviation", |s| s.sd),
            ("median", |s| s.median),
        ];
        for (name, take) in statistics {
            let value = |m: &Measure| number(measures.get(m).and_then(take), *m);
            let mut row = vec![name.to_owned(), label.clone()];
            row.extend(SHOWN.iter().map(value));
            table.add_row(row);
        }
    }
    for (group, part) in groups(report) {
        for (label, measures) in part.aggregates() {
            let mean = |m: &Measure| number(measures.get(m).and_then(|s| s.mean), *m);
            let mut row = vec![format!("mean, {group}"), label];
            row.extend(SHOWN.iter().map(mean));
            table.add_row(row);
        }
    }
    for i in 2..8 {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say!("{table}");
    for (label, measures) in &aggregates {
        let Some(dice) = measures.get(&Measure::Dice) else {
            continue;
        };
        say!(
            "label {label}: {} cases, {} that could not be judged, {} with an empty prediction, {} left out of the mean",
            dice.n + dice.n_undefined,
            dice.n_missing,
            dice.n_empty,
            measures.get(&Measure::Hd).map_or(0, |hd| hd.n_undefined)
        );
    }
    for note in &report.notes {
        say!("note: {note}");
    }
    for case in &report.missing {
        say!("missing: {}: {}", case.reference_file, case.reason);
    }
}

/// The cases of each group but patients, when there is more than one group of the kind.
fn groups(report: &Report) -> Vec<(String, Report)> {
    let cases = report.cases.iter().map(|case| &case.group);
    let all = cases.chain(report.missing.iter().map(|case| &case.group));
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (kind, name) in all.flatten().filter(|(kind, _)| *kind != "patient") {
        kinds.entry(kind).or_default().insert(name);
    }
    let part = |kind: &str, name: &str| {
        let mut part = report.clone();
        let belongs = |group: &BTreeMap<String, String>| group.get(kind).is_some_and(|n| n == name);
        part.cases.retain(|case| belongs(&case.group));
        part.missing.retain(|case| belongs(&case.group));
        (format!("{kind} {name}"), part)
    };
    let kinds = kinds.into_iter().filter(|(_, names)| names.len() > 1);
    kinds
        .flat_map(|(kind, names)| names.into_iter().map(move |name| part(kind, name)))
        .collect()
}

fn number(value: Option<f64>, measure: Measure) -> String {
    match value {
        None => "–".into(),
        Some(v) if measure.is_distance() => format!("{v:.2}"),
        Some(v) if measure == Measure::VolumeErrorMl => format!("{v:.1}"),
        Some(v) => format!("{v:.4}"),
    }
}

fn name(file: &str) -> String {
    Path::new(file)
        .file_name()
        .map_or_else(|| file.to_owned(), |n| n.to_string_lossy().into_owned())
}
