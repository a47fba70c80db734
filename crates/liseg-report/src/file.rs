//! The files of a report.

use crate::evaluation::{Evaluation, group_kinds};
use crate::{Error, Result};
use liseg_file::text::cell;
use liseg_metrics::Measure;
use std::path::Path;

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    liseg_file::write(path, bytes).map_err(Error::write(path))
}

/// Writes one row per evaluation, case and label. An undefined value is an empty field.
pub(crate) fn write_cases(path: &Path, evaluations: &[Evaluation]) -> Result<()> {
    let table = cases_csv(evaluations).map_err(|e| Error::write(path)(e.into()))?;
    write(path, &table)
}

fn cases_csv(evaluations: &[Evaluation]) -> csv::Result<Vec<u8>> {
    let kinds = group_kinds(evaluations);
    let mut table = csv::Writer::from_writer(Vec::new());
    let header = ["evaluation", "case"]
        .into_iter()
        .chain(kinds.iter().copied());
    let header = header
        .chain(["label", "outcome"])
        .chain(Measure::ALL.map(Measure::name));
    table.write_record(header.chain(["reasons", "prediction_file", "reference_file"]))?;
    for evaluation in evaluations {
        for case in &evaluation.cases {
            for (label, metrics) in &case.metrics {
                let mut record = vec![cell(&evaluation.name), cell(&case.id)];
                let group = |kind: &&str| cell(case.group.get(*kind).map_or("", String::as_str));
                record.extend(kinds.iter().map(group));
                record.push(cell(label));
                record.push(format!("{:?}", case.outcome(metrics)).to_lowercase());
                let value = |measure| metrics.get(measure).map(|v| v.to_string());
                record.extend(Measure::ALL.map(|measure| value(measure).unwrap_or_default()));
                let reasons = metrics
                    .reasons
                    .iter()
                    .map(|(measure, why)| format!("{measure}: {why}"));
                let reasons = case.reason.clone().into_iter().chain(reasons);
                record.push(cell(&reasons.collect::<Vec<_>>().join("; ")));
                record.push(cell(case.prediction_file.as_deref().unwrap_or_default()));
                record.push(cell(&case.reference_file));
                table.write_record(record)?;
            }
        }
    }
    Ok(table.into_inner().map_err(|e| e.into_error())?)
}
