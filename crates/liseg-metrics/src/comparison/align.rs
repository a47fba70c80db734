//! The same cases of several reports, side by side.

use crate::report::Row;
use crate::{CaseMetrics, Error, Measure, Report, Result, summary};
use std::collections::{BTreeMap, BTreeSet};

/// The cases that all reports have, grouped to units.
pub(super) struct Aligned<'a> {
    pub(super) methods: Vec<String>,
    pub(super) unit: String,
    pub(super) units: Vec<String>,
    pub(super) unshared: Vec<String>,
    /// The foreground labels, in order.
    pub(super) labels: Vec<String>,
    /// By method, then unit: the cases of the unit.
    cases: Vec<Vec<Vec<Row<'a>>>>,
}

impl<'a> Aligned<'a> {
    pub(super) fn of(reports: &'a [(String, Report)]) -> Result<Self> {
        check_names(reports)?;
        let by_case: Vec<BTreeMap<&str, Row<'a>>> = reports
            .iter()
            .map(|(_, report)| {
                let rows = report.rows().into_iter();
                rows.map(|row| (stem(row.reference_file), row)).collect()
            })
            .collect();
        let in_any: BTreeSet<&str> = by_case
            .iter()
            .flat_map(|cases| cases.keys().copied())
            .collect();
        let (shared, unshared): (Vec<&str>, Vec<&str>) = in_any
            .into_iter()
            .partition(|case| by_case.iter().all(|cases| cases.contains_key(case)));
        if shared.is_empty() {
            return Err(Error::Comparison {
                reason:
                    "the reports have no case in common; cases are matched by the file name of \
                         their reference"
                        .into(),
            });
        }
        let patients = patients(&by_case, &shared);
        let unit = if patients.is_some() {
            "patient"
        } else {
            "case"
        };
        let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for case in shared {
            let unit = patients.as_ref().map_or(case, |of_case| of_case[case]);
            members.entry(unit).or_default().push(case);
        }
        let cases = by_case.iter().map(|rows| {
            let of_unit =
                |cases: &Vec<&str>| cases.iter().filter_map(|c| rows.get(c)).copied().collect();
            members.values().map(of_unit).collect::<Vec<Vec<Row<'a>>>>()
        });
        let cases: Vec<_> = cases.collect();
        Ok(Self {
            methods: reports.iter().map(|(name, _)| name.clone()).collect(),
            unit: unit.into(),
            units: members.keys().map(|&unit| unit.to_owned()).collect(),
            unshared: unshared.into_iter().map(str::to_owned).collect(),
            labels: labels(&cases),
            cases,
        })
    }

    /// By method, then unit: the mean over the unit's cases; `None` when any of them has no value.
    pub(super) fn values(&self, label: &str, measure: Measure) -> Vec<Vec<Option<f64>>> {
        let value = |row: &Row<'_>| {
            row.metrics
                .get(label)
                .and_then(|m: &CaseMetrics| m.get(measure))
        };
        let of_unit = |rows: &Vec<Row<'_>>| {
            let values: Option<Vec<f64>> = rows.iter().map(value).collect();
            summary::mean(values?.into_iter())
        };
        let methods = self.cases.iter();
        methods
            .map(|units| units.iter().map(of_unit).collect())
            .collect()
    }
}

fn check_names(reports: &[(String, Report)]) -> Result<()> {
    let names: BTreeSet<&String> = reports.iter().map(|(name, _)| name).collect();
    let reason = if reports.len() < 2 {
        format!("there is {} report; give two or more", reports.len())
    } else if names.len() < reports.len() {
        let list: Vec<&str> = reports.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "two methods have one name ({}); name them apart",
            list.join(", ")
        )
    } else {
        return Ok(());
    };
    Err(Error::Comparison { reason })
}

/// The patient of every shared case; `None` unless all of them have one.
fn patients<'a>(
    by_case: &[BTreeMap<&'a str, Row<'a>>],
    shared: &[&'a str],
) -> Option<BTreeMap<&'a str, &'a str>> {
    let patient = |case: &&'a str| {
        let mut rows = by_case.iter().filter_map(|rows| rows.get(case));
        let patient = rows.find_map(|row| row.group.get("patient"))?;
        Some((*case, patient.as_str()))
    };
    shared.iter().map(patient).collect()
}

/// The labels that every case of every method was judged by, but background, by number first.
fn labels(cases: &[Vec<Vec<Row<'_>>>]) -> Vec<String> {
    let rows = cases.iter().flatten().flatten();
    let found: BTreeSet<&String> = rows.flat_map(|row| row.metrics.keys()).collect();
    let mut labels: Vec<String> = found.into_iter().filter(|l| *l != "0").cloned().collect();
    labels.sort_by_key(|label| (label.parse::<u64>().unwrap_or(u64::MAX), label.clone()));
    labels
}

/// The name of a file without folders and without the ending of a NIfTI file.
fn stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".nii").unwrap_or(name)
}
