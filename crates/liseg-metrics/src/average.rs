//! Reports of several runs on the same cases, averaged case by case.

use crate::{CaseMetrics, CaseResult, Measure, Report};
use std::collections::BTreeMap;
use std::path::Path;

/// What a case scored over all reports.
#[derive(Default)]
struct Sum {
    group: BTreeMap<String, String>,
    values: BTreeMap<String, BTreeMap<Measure, (f64, usize)>>,
}

impl Report {
    /// One report in which every case has the mean of its values over `reports`, such as those of several
    /// seeds. Cases are matched by the file name of their reference; one that some reports lack is averaged
    /// over those that have it, and a missing mask counts with the values that it scored. Counts of
    /// voxels and the reasons of undefined values are left out.
    ///
    /// ```
    /// use liseg_metrics::{CaseMetrics, CaseResult, Report};
    /// let run = |dice: f64| Report {
    ///     cases: vec![CaseResult {
    ///         reference_file: "labelsTs/case_1.nii.gz".into(),
    ///         metrics: [("1".into(), CaseMetrics { dice: Some(dice), ..CaseMetrics::default() })].into(),
    ///         ..CaseResult::default()
    ///     }],
    ///     ..Report::default()
    /// };
    /// let mean = Report::averaged(&[run(0.75), run(0.25)]);
    /// assert_eq!(mean.cases[0].metrics["1"].dice, Some(0.5));
    /// ```
    #[must_use]
    pub fn averaged(reports: &[Self]) -> Self {
        let mut cases: BTreeMap<String, Sum> = BTreeMap::new();
        for row in reports.iter().flat_map(Self::rows) {
            let name = Path::new(row.reference_file)
                .file_name()
                .unwrap_or_default();
            let sum = cases
                .entry(name.to_string_lossy().into_owned())
                .or_default();
            sum.group.clone_from(row.group);
            for (label, metrics) in row.metrics {
                let of_label = sum.values.entry(label.clone()).or_default();
                for measure in Measure::ALL {
                    if let Some(value) = metrics.get(measure) {
                        let (total, count) = of_label.entry(measure).or_insert((0.0, 0));
                        *total += value;
                        *count += 1;
                    }
                }
            }
        }
        Self {
            settings: reports.first().map(|r| r.settings).unwrap_or_default(),
            cases: cases
                .into_iter()
                .map(|(name, sum)| sum.mean(name))
                .collect(),
            ..Self::default()
        }
    }
}

impl Sum {
    fn mean(self, reference_file: String) -> CaseResult {
        let of_label = |values: BTreeMap<Measure, (f64, usize)>| {
            let mut mean = CaseMetrics::default();
            for (measure, (total, count)) in values {
                mean.set(measure, Some(total / count as f64), None);
            }
            mean
        };
        let labels = self.values.into_iter();
        CaseResult {
            reference_file,
            group: self.group,
            metrics: labels
                .map(|(label, values)| (label, of_label(values)))
                .collect(),
            ..CaseResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MissingCase;

    fn metrics(dice: f64, hd: Option<f64>) -> BTreeMap<String, CaseMetrics> {
        let metrics = CaseMetrics {
            dice: Some(dice),
            hd,
            ..CaseMetrics::default()
        };
        BTreeMap::from([("1".to_owned(), metrics)])
    }

    fn case(folder: &str, id: &str, dice: f64, hd: Option<f64>) -> CaseResult {
        CaseResult {
            reference_file: format!("{folder}/{id}.nii.gz"),
            metrics: metrics(dice, hd),
            ..CaseResult::default()
        }
    }

    #[test]
    fn cases_are_averaged_over_the_reports_that_have_them() {
        let first = Report {
            cases: vec![case("a", "1", 0.5, Some(4.0)), case("a", "2", 0.9, None)],
            ..Report::default()
        };
        let second = Report {
            cases: vec![case("b", "1", 0.25, None)],
            missing: vec![MissingCase {
                reference_file: "b/2.nii.gz".into(),
                metrics: metrics(0.0, None),
                ..MissingCase::default()
            }],
            ..Report::default()
        };
        let third = Report {
            cases: vec![case("c", "3", 0.75, None)],
            ..Report::default()
        };
        let mean = Report::averaged(&[first, second, third]);
        let found: Vec<(&str, Option<f64>, Option<f64>)> = mean
            .cases
            .iter()
            .map(|case| {
                (
                    &case.reference_file[..],
                    case.metrics["1"].dice,
                    case.metrics["1"].hd,
                )
            })
            .collect();
        let expected = [
            ("1.nii.gz", Some(0.375), Some(4.0)),
            ("2.nii.gz", Some(0.45), None),
            ("3.nii.gz", Some(0.75), None),
        ];
        assert_eq!(found, expected);
        assert!(mean.missing.is_empty() && Report::averaged(&[]).cases.is_empty());
    }
}
