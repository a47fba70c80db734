//! Evaluations as the page looks at them: cases with a name, and one series per label.

use crate::{Error, EvaluationSpec, Result, doubt};
use liseg_metrics::{CaseMetrics, Empty, LabelMetrics, Measure, Report, Settings, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An evaluation that was read.
pub(crate) struct Evaluation {
    pub(crate) name: String,
    pub(crate) images: Vec<PathBuf>,
    pub(crate) settings: Settings,
    /// Those without a prediction last.
    pub(crate) cases: Vec<Case>,
    pub(crate) aggregates: BTreeMap<String, BTreeMap<Measure, Summary>>,
    /// As it was read, for paired comparisons.
    pub(crate) report: Report,
    /// How unsure the predictions are, by the name of the mask; empty where nothing says.
    pub(crate) scores: doubt::Scores,
    folder: PathBuf,
}

/// A case of an evaluation.
pub(crate) struct Case {
    /// The name of the reference file, with its folders where that alone is not unique.
    pub(crate) id: String,
    /// The name of the reference file without folders and ending.
    pub(crate) stem: String,
    pub(crate) group: BTreeMap<String, String>,
    pub(crate) prediction_file: Option<String>,
    pub(crate) reference_file: String,
    /// Why there is no prediction.
    pub(crate) reason: Option<String>,
    pub(crate) metrics: LabelMetrics,
}

/// What became of a label of a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Measured,
    Empty,
    Missing,
}

impl Case {
    pub(crate) fn outcome(&self, metrics: &CaseMetrics) -> Outcome {
        if self.prediction_file.is_none() {
            Outcome::Missing
        } else if metrics.empty() == Some(Empty::Prediction) {
            Outcome::Empty
        } else {
            Outcome::Measured
        }
    }
}

impl Evaluation {
    pub(crate) fn read(spec: &EvaluationSpec) -> Result<Self> {
        let path = &spec.metrics_file;
        let report = Report::read_json(path).map_err(|source| Error::Evaluation {
            evaluation: spec.name.clone(),
            path: path.clone(),
            // The reader's own message only repeats the path.
            source: match source {
                liseg_metrics::Error::Read { source, .. } => source,
                other => other.into(),
            },
        })?;
        let aggregates = report.aggregates();
        let settings = report.settings;
        let kept = report.clone();
        let judged = report.cases.into_iter().map(|case| Case {
            id: String::new(),
            stem: stem(&case.reference_file),
            group: case.group,
            prediction_file: Some(case.prediction_file),
            reference_file: case.reference_file,
            reason: None,
            metrics: case.metrics,
        });
        let missing = report.missing.into_iter().map(|case| Case {
            id: String::new(),
            stem: stem(&case.reference_file),
            group: case.group,
            prediction_file: None,
            reference_file: case.reference_file,
            reason: Some(case.reason),
            metrics: case.metrics,
        });
        let mut cases: Vec<Case> = judged.chain(missing).collect();
        let stems: BTreeSet<&str> = cases.iter().map(|case| case.stem.as_str()).collect();
        let unique = stems.len() == cases.len();
        for case in &mut cases {
            let name = if unique {
                &case.stem
            } else {
                without_ending(&case.reference_file)
            };
            case.id = name.to_owned();
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let (name, images) = (spec.name.clone(), spec.images.clone());
        let predictions = cases
            .iter()
            .find_map(|case| case.prediction_file.as_deref());
        let beside =
            predictions.and_then(|file| locate(&folder, file).parent().map(Path::to_owned));
        let scores = beside.map_or_else(doubt::Scores::new, |folder| doubt::read(&folder));
        Ok(Self {
            name,
            images,
            settings,
            cases,
            aggregates,
            report: kept,
            scores,
            folder,
        })
    }

    /// The labels other than background, or all where there is only that.
    pub(crate) fn labels(&self) -> Vec<&str> {
        let all = || self.aggregates.keys().map(String::as_str);
        let mut labels: Vec<&str> = all().filter(|label| *label != "0").collect();
        if labels.is_empty() {
            labels = all().collect();
        }
        labels.sort_by_key(|label| (label.parse::<u64>().unwrap_or(u64::MAX), *label));
        labels
    }

    /// Where a file named in the metrics lies.
    pub(crate) fn locate(&self, file: &str) -> PathBuf {
        locate(&self.folder, file)
    }
}

fn locate(folder: &Path, file: &str) -> PathBuf {
    let beside = folder.join(file);
    if !Path::new(file).exists() && beside.exists() {
        beside
    } else {
        file.into()
    }
}

/// One label of one evaluation: a line in tables and charts.
#[derive(Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) evaluation: &'a Evaluation,
    pub(crate) label: &'a str,
    pub(crate) summaries: &'a BTreeMap<Measure, Summary>,
    /// Place among all series, which gives it its colour.
    pub(crate) index: usize,
    /// Whether its name needs the label.
    named: bool,
}

impl<'a> Series<'a> {
    /// The series of all evaluations, in order.
    pub(crate) fn all(evaluations: &'a [Evaluation]) -> Vec<Self> {
        let labels: BTreeSet<&str> = evaluations.iter().flat_map(Evaluation::labels).collect();
        let mut series = Vec::new();
        for evaluation in evaluations {
            for label in evaluation.labels() {
                let Some(summaries) = evaluation.aggregates.get(label) else {
                    continue;
                };
                let index = series.len();
                series.push(Self {
                    evaluation,
                    label,
                    summaries,
                    index,
                    named: labels.len() > 1,
                });
            }
        }
        series
    }

    /// The name, not escaped.
    pub(crate) fn name(&self) -> String {
        match self.named {
            true => format!("{}, label {}", self.evaluation.name, self.label),
            false => self.evaluation.name.clone(),
        }
    }

    /// The cases that have the label.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (&'a Case, &'a CaseMetrics)> + use<'a> {
        let label = self.label;
        let cases = self.evaluation.cases.iter();
        cases.filter_map(move |case| Some((case, case.metrics.get(label)?)))
    }

    pub(crate) fn case(&self, id: &str) -> Option<(&'a Case, &'a CaseMetrics)> {
        self.cases().find(|(case, _)| case.id == id)
    }
}

/// The kinds of groups, phase and vendor first.
pub(crate) fn group_kinds(evaluations: &[Evaluation]) -> Vec<&str> {
    let cases = evaluations.iter().flat_map(|evaluation| &evaluation.cases);
    let kinds: BTreeSet<&str> = cases
        .flat_map(|case| case.group.keys())
        .map(String::as_str)
        .collect();
    let mut kinds: Vec<&str> = kinds.into_iter().collect();
    kinds.sort_by_key(|kind| match *kind {
        "phase" => 0,
        "vendor" => 1,
        _ => 2,
    });
    kinds
}

/// The members of a kind of group that cases belong to.
pub(crate) fn group_names<'a>(evaluations: &'a [Evaluation], kind: &str) -> BTreeSet<&'a str> {
    let cases = evaluations.iter().flat_map(|evaluation| &evaluation.cases);
    cases
        .filter_map(|case| Some(case.group.get(kind)?.as_str()))
        .collect()
}

fn without_ending(path: &str) -> &str {
    let endings = [".nii.gz", ".nii"];
    endings
        .iter()
        .find_map(|ending| path.strip_suffix(ending))
        .unwrap_or(path)
}

fn stem(path: &str) -> String {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    without_ending(name.unwrap_or(path)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_metrics::CaseResult;

    fn read(files: &[&str]) -> Evaluation {
        let folder = tempfile::tempdir().unwrap();
        let metrics_file = folder.path().join("metrics.json");
        let metrics: LabelMetrics = ["0", "10", "2"]
            .map(|label| (label.to_owned(), CaseMetrics::default()))
            .into();
        let case = |file: &&str| CaseResult {
            reference_file: (*file).to_owned(),
            metrics: metrics.clone(),
            ..CaseResult::default()
        };
        let cases = files.iter().map(case).collect();
        Report {
            cases,
            ..Report::default()
        }
        .write_json(&metrics_file)
        .unwrap();
        Evaluation::read(&EvaluationSpec {
            name: "a".into(),
            metrics_file,
            images: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn names_are_short_where_they_can_be() {
        let ids = |files: &[&str]| {
            read(files)
                .cases
                .into_iter()
                .map(|c| c.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&["r/p1.nii.gz", "r/p2.nii"]), ["p1", "p2"]);
        assert_eq!(
            ids(&["p1/mask.nii.gz", "p2/mask.nii.gz"]),
            ["p1/mask", "p2/mask"]
        );
    }

    #[test]
    fn labels_count_and_background_is_left_out() {
        let evaluation = [read(&["p1.nii.gz"])];
        assert_eq!(evaluation[0].labels(), ["2", "10"]);
        let series = Series::all(&evaluation);
        assert_eq!(series[1].name(), "a, label 10");
    }
}
