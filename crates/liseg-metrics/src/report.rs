//! The report on many cases.

use crate::summary::{Summary, mean};
use crate::{CaseMetrics, Measure, Result, Settings, write};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The measures of one label and what they are called, by label.
pub type LabelMetrics = BTreeMap<String, CaseMetrics>;

/// A case that was judged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseResult {
    /// The file that was judged.
    pub prediction_file: String,
    /// The file that it was judged by.
    pub reference_file: String,
    /// What the case belongs to, such as `phase` → `GED4` and `vendor` → `A`; may be empty.
    pub group: BTreeMap<String, String>,
    /// The measures of each label.
    pub metrics: LabelMetrics,
}

/// A case without a prediction, or with one that could not be judged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MissingCase {
    /// The file that has no counterpart.
    pub reference_file: String,
    /// Why: no file, or what was wrong with it.
    pub reason: String,
    /// As in [`CaseResult::group`].
    pub group: BTreeMap<String, String>,
    /// What it scores instead: see [`missing_case`](crate::missing_case).
    pub metrics: LabelMetrics,
}

/// What became of a set of cases, and how it was measured.
///
/// # Examples
/// ```
/// use liseg_metrics::{CaseMetrics, CaseResult, Measure, Report, Settings};
///
/// let metrics = CaseMetrics { dice: Some(0.9), ..CaseMetrics::default() };
/// let case = CaseResult {
///     prediction_file: "predictions/p1.nii.gz".into(),
///     reference_file: "references/p1.nii.gz".into(),
///     group: [("phase".into(), "GED4".into())].into(),
///     metrics: [("1".into(), metrics)].into(),
/// };
/// let report = Report { settings: Settings::default(), cases: vec![case], ..Report::default() };
/// assert_eq!(report.aggregates()["1"][&Measure::Dice].mean, Some(0.9));
/// let summary = report.to_summary_json();
/// assert_eq!(summary["foreground_mean"]["Dice"], 0.9);
/// assert_eq!(summary["groups"]["phase"]["GED4"]["mean"]["1"]["Dice"], 0.9);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// How the cases were judged.
    pub settings: Settings,
    /// The cases that were judged.
    pub cases: Vec<CaseResult>,
    /// The cases without a prediction. They count in every mean.
    pub missing: Vec<MissingCase>,
    /// What else a reader should know, such as predictions of no reference.
    pub notes: Vec<String>,
}

/// One entry of `metric_per_case`, whichever kind of case it is.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) prediction_file: Option<&'a str>,
    pub(crate) reference_file: &'a str,
    pub(crate) group: &'a BTreeMap<String, String>,
    pub(crate) metrics: &'a LabelMetrics,
    pub(crate) reason: Option<&'a str>,
}

impl Report {
    /// All cases, those without a prediction last.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let cases = self.cases.iter().map(|case| Row {
            prediction_file: Some(&case.prediction_file),
            reference_file: &case.reference_file,
            group: &case.group,
            metrics: &case.metrics,
            reason: None,
        });
        let missing = self.missing.iter().map(|case| Row {
            prediction_file: None,
            reference_file: &case.reference_file,
            group: &case.group,
            metrics: &case.metrics,
            reason: Some(&case.reason),
        });
        cases.chain(missing).collect()
    }

    /// How every measure is distributed over the cases, by label.
    pub fn aggregates(&self) -> BTreeMap<String, BTreeMap<Measure, Summary>> {
        aggregates(&self.rows())
    }

    /// The report in the shape of nnU-Net's `summary.json`, with more beside it.
    ///
    /// - `metric_per_case`: `prediction_file` (null when missing), `reference_file`, `group`,
    ///   `metrics` by label, `reason` when missing
    /// - `mean` by label and `foreground_mean` (the plain mean over the labels but 0), of all
    ///   measures and counts
    /// - `aggregates`: [`Summary`] by label and measure
    /// - `groups`: for every kind and name of group `n`, `mean` and `aggregates`
    /// - `missing`: the cases without a prediction, and why
    /// - `notes`: what else a reader should know
    /// - `settings`: how the cases were judged
    ///
    /// An undefined value is `null`, and the `reasons` of its case say why; there is no NaN.
    pub fn to_summary_json(&self) -> Value {
        let rows = self.rows();
        let per_case: Vec<Value> = rows.iter().map(|row| entry(row)).collect();
        let missing = self.missing.iter().map(|case| {
            json!({ "reference_file": case.reference_file, "reason": case.reason, "group": case.group })
        });
        json!({
            "metric_per_case": per_case,
            "mean": means(&rows),
            "foreground_mean": foreground_mean(&rows),
            "aggregates": self.aggregates(),
            "groups": groups(&rows),
            "missing": missing.collect::<Vec<_>>(),
            "notes": self.notes,
            "settings": self.settings,
        })
    }

    /// Writes [`Report::to_summary_json`]; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write::atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, &self.to_summary_json())?;
            Ok(std::io::Write::write_all(file, b"\n")?)
        })
    }

    /// Reads back what [`Report::write_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read) when the file cannot be read or is no such report.
    pub fn read_json(path: &Path) -> Result<Self> {
        let read = || -> Result<Written, Box<dyn std::error::Error + Send + Sync>> {
            Ok(serde_json::from_str(&liseg_file::read_text(path)?)?)
        };
        let written = read().map_err(|source| crate::Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut report = Self {
            settings: written.settings,
            notes: written.notes,
            ..Self::default()
        };
        for entry in written.metric_per_case {
            let (reference_file, group, metrics) =
                (entry.reference_file, entry.group, entry.metrics);
            match entry.prediction_file {
                Some(prediction_file) => report.cases.push(CaseResult {
                    prediction_file,
                    reference_file,
                    group,
                    metrics,
                }),
                None => report.missing.push(MissingCase {
                    reference_file,
                    reason: entry.reason.unwrap_or_default(),
                    group,
                    metrics,
                }),
            }
        }
        Ok(report)
    }

    /// Writes a table with one row per case and label; the file appears whole or not at all.
    ///
    /// Columns: the files, `missing`, one for every kind of group, `label`, the measures, the
    /// counts, the spacing, and `reasons`. An undefined value is an empty field.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        write::atomically(path, |file| write::table(&self.rows(), file))
    }
}

/// What is read back of a written report; the rest follows from it.
#[derive(Deserialize)]
struct Written {
    metric_per_case: Vec<Entry>,
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    prediction_file: Option<String>,
    reference_file: String,
    #[serde(default)]
    group: BTreeMap<String, String>,
    metrics: LabelMetrics,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn entry(row: &Row<'_>) -> Value {
    let mut entry = json!({
        "prediction_file": row.prediction_file,
        "reference_file": row.reference_file,
        "group": row.group,
        "metrics": row.metrics,
    });
    if let Some(reason) = row.reason {
        entry["reason"] = json!(reason);
    }
    entry
}

/// The labels that any case was judged by.
fn labels<'a>(rows: &[Row<'a>]) -> Vec<&'a str> {
    let mut labels: Vec<&str> = rows
        .iter()
        .flat_map(|row| row.metrics.keys())
        .map(String::as_str)
        .collect();
    // By number first: "2" before "10".
    labels.sort_by_key(|label| (label.parse::<u64>().unwrap_or(u64::MAX), *label));
    labels.dedup();
    labels
}

/// How every measure is distributed over the rows, by label.
fn aggregates(rows: &[Row<'_>]) -> BTreeMap<String, BTreeMap<Measure, Summary>> {
    let summarise = |label: &str| {
        let summary = |measure| Summary::of(measure, of_label(rows, label));
        Measure::ALL.into_iter().map(|m| (m, summary(m))).collect()
    };
    let labels = labels(rows).into_iter();
    labels
        .map(|label| (label.to_owned(), summarise(label)))
        .collect()
}

/// The metrics of one label, each with whether its prediction is missing.
fn of_label<'a>(
    rows: &'a [Row<'a>],
    label: &'a str,
) -> impl Iterator<Item = (&'a CaseMetrics, bool)> {
    rows.iter().filter_map(move |row| {
        let metrics = row.metrics.get(label)?;
        Some((metrics, row.prediction_file.is_none()))
    })
}

/// The name of a count, and where it stands.
type Count = (&'static str, fn(&CaseMetrics) -> u64);

/// The counts beside the measures, as nnU-Net averages them too.
pub(crate) const COUNTS: [Count; 6] = [
    ("TP", |case| case.true_positive),
    ("FP", |case| case.false_positive),
    ("FN", |case| case.false_negative),
    ("TN", |case| case.true_negative),
    ("n_pred", |case| case.n_pred),
    ("n_ref", |case| case.n_ref),
];

/// The mean of every measure and count, by label; null where no case has a value.
fn means(rows: &[Row<'_>]) -> Map<String, Value> {
    let of = |label: &str| {
        let cases = || of_label(rows, label).map(|(case, _)| case);
        let measures = Measure::ALL.into_iter().map(|measure| {
            let values = cases().filter_map(|case| case.get(measure));
            (measure.name().to_owned(), json!(mean(values)))
        });
        let counts = COUNTS.into_iter().map(|(name, count)| {
            (
                name.to_owned(),
                json!(mean(cases().map(|case| count(case) as f64))),
            )
        });
        Value::Object(measures.chain(counts).collect())
    };
    let labels = labels(rows).into_iter();
    labels.map(|label| (label.to_owned(), of(label))).collect()
}

/// The plain mean over the labels other than background, as in nnU-Net; labels without a value
/// are left out.
fn foreground_mean(rows: &[Row<'_>]) -> Map<String, Value> {
    let means = means(rows);
    let names = Measure::ALL.map(Measure::name).into_iter();
    let names = names.chain(COUNTS.map(|(name, _)| name));
    names
        .map(|name| {
            let foreground = means.iter().filter(|(label, _)| *label != "0");
            let values = foreground.filter_map(|(_, means)| means[name].as_f64());
            (name.to_owned(), json!(mean(values)))
        })
        .collect()
}

/// For every kind of group and every name in it, the number of cases and their means.
fn groups(rows: &[Row<'_>]) -> Map<String, Value> {
    let mut members: BTreeMap<&str, BTreeMap<&str, Vec<Row<'_>>>> = BTreeMap::new();
    for row in rows {
        for (kind, name) in row.group {
            let kind = members.entry(kind).or_default();
            kind.entry(name).or_default().push(*row);
        }
    }
    let of_kind = |names: BTreeMap<&str, Vec<Row<'_>>>| {
        let names = names.into_iter().map(|(name, rows)| {
            let missing = rows.iter().filter(|row| row.prediction_file.is_none());
            let group = json!({
                "n": rows.len(),
                "n_missing": missing.count(),
                "mean": means(&rows),
                "foreground_mean": foreground_mean(&rows),
                "aggregates": aggregates(&rows),
            });
            (name.to_owned(), group)
        });
        Value::Object(names.collect())
    };
    let kinds = members.into_iter();
    kinds
        .map(|(kind, names)| (kind.to_owned(), of_kind(names)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluate_case, missing_case};
    use liseg_volume::{Affine, LabelMap, Spacing};
    use ndarray::{Array3, s};

    pub(crate) fn example() -> Report {
        let settings = Settings::default();
        let affine = Affine::from_spacing(Spacing::new(5.0, 1.0, 1.0).unwrap());
        let block = |width: usize| {
            let mut data = Array3::zeros((4, 8, 8));
            data.slice_mut(s![1..3, 2..6, 2..2 + width]).fill(1);
            data[[0, 0, 0]] = 2;
            LabelMap::new(data, affine).unwrap()
        };
        let reference = block(4);
        let group = |phase: &str| [("phase".to_owned(), phase.to_owned())].into();
        let judge = |name: &str, width, phase| {
            let prediction = block(width);
            let of = |label| evaluate_case(&prediction, &reference, label, &settings).unwrap();
            CaseResult {
                prediction_file: format!("predictions/{name}.nii.gz"),
                reference_file: format!("references/{name}.nii.gz"),
                group: group(phase),
                metrics: [("1".into(), of(1)), ("2".into(), of(2))].into(),
            }
        };
        let lost = |label| missing_case(&reference, label, &settings).unwrap();
        Report {
            settings,
            cases: vec![judge("a", 4, "GED4"), judge("b", 0, "T1WI")],
            missing: vec![MissingCase {
                reference_file: "references/c, d.nii.gz".into(),
                reason: "there is no such file".into(),
                group: group("GED4"),
                metrics: [("1".into(), lost(1)), ("2".into(), lost(2))].into(),
            }],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn means_count_empty_and_missing_predictions_as_worst() {
        let report = example();
        let summary = report.to_summary_json();
        let third = 1.0 / 3.0;
        assert_eq!(summary["mean"]["1"]["Dice"], third);
        assert_eq!(summary["mean"]["2"]["Dice"], 2.0 * third);
        assert_eq!(summary["foreground_mean"]["Dice"], 0.5);
        let diagonal = (15f64.powi(2) + 49.0 + 49.0).sqrt();
        let hd = summary["mean"]["1"]["HD"].as_f64().unwrap();
        assert!((hd - 2.0 * diagonal / 3.0).abs() < 1e-12);
        assert_eq!(summary["mean"]["1"]["n_ref"], 32.0);
        assert_eq!(summary["groups"]["phase"]["GED4"]["mean"]["1"]["Dice"], 0.5);
        assert_eq!(summary["groups"]["phase"]["GED4"]["n_missing"], 1);
        let distribution = &summary["groups"]["phase"]["GED4"]["aggregates"]["1"]["Dice"];
        assert_eq!(
            (&distribution["n"], &distribution["median"]),
            (&json!(2), &json!(0.5))
        );
        assert_eq!(distribution["mean_interval"], json!([0.0, 1.0]));
        assert_eq!(summary["metric_per_case"].as_array().unwrap().len(), 3);
        assert_eq!(summary["missing"][0]["reason"], "there is no such file");
        assert_eq!(summary["settings"]["convention"], "monai");

        let aggregates = report.aggregates();
        let dice = &aggregates["1"][&Measure::Dice];
        assert_eq!((dice.n, dice.n_missing, dice.n_empty), (3, 1, 1));
        assert_eq!(dice.median, Some(0.0));
        assert_eq!(summary["aggregates"]["1"]["Dice"]["n_missing"], 1);
    }

    #[test]
    fn a_written_report_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.json");
        let report = example();
        report.write_json(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        let back = Report::read_json(&path).unwrap();
        assert_eq!(back.missing.len(), 1);
        let (written, read) = (report.to_summary_json(), back.to_summary_json());
        assert_eq!(written["metric_per_case"].as_array().unwrap().len(), 3);
        for key in ["settings", "missing"] {
            assert_eq!(written[key], read[key]);
        }
        let dice = |summary: &Value| summary["mean"]["1"]["Dice"].as_f64().unwrap();
        assert!((dice(&written) - dice(&read)).abs() < 1e-12);
        // Nothing but the report is left in the folder.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = Report::read_json(&folder.path().join("other.json")).unwrap_err();
        assert!(error.to_string().contains("other.json"), "{error}");
    }

    #[test]
    fn an_empty_report_is_a_report() {
        let summary = Report::default().to_summary_json();
        assert_eq!(summary["metric_per_case"], json!([]));
        assert_eq!(summary["foreground_mean"]["Dice"], Value::Null);
    }

    #[test]
    fn the_table_has_a_row_for_every_case_and_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut report = example();
        let phase = report.missing[0].group.get_mut("phase").unwrap();
        *phase = "=HYPERLINK(\"x\")".into();
        report.write_csv(&path).unwrap();
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let header: Vec<String> = reader
            .headers()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        let column = |name: &str| header.iter().position(|h| h == name).unwrap();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 6);
        assert_eq!(&rows[0][column("Dice")], "1");
        assert_eq!(&rows[1][column("label")], "2");
        assert_eq!(&rows[2][column("n_pred")], "0");
        assert!(rows[2][column("reasons")].contains("HD: the prediction is empty"));
        assert_eq!(&rows[4][column("reference_file")], "references/c, d.nii.gz");
        assert_eq!(&rows[4][column("missing")], "true");
        assert_eq!(&rows[4][column("phase")], "'=HYPERLINK(\"x\")");
        assert_eq!(&rows[4][column("spacing_z_mm")], "5");
    }
}
