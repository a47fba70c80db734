//! Writing files so that they appear whole or not at all.

use crate::report::{COUNTS, Row};
use crate::{Error, Measure, Result};
use liseg_file::text::cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes a file whole or not at all.
pub(crate) fn atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), Failure>,
) -> Result<()> {
    liseg_file::write_with(path, fill).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// One row per case and label.
pub(crate) fn table(rows: &[Row<'_>], file: impl Write) -> Result<(), Failure> {
    let kinds: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.group.keys())
        .map(String::as_str)
        .collect();
    let mut table = csv::Writer::from_writer(file);

    let header = ["prediction_file", "reference_file", "missing"].into_iter();
    let header = header.chain(kinds.iter().copied()).chain(["label"]);
    let header = header.chain(Measure::ALL.map(Measure::name));
    let header = header.chain(COUNTS.map(|(name, _)| name));
    let header = header.chain(["spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "reasons"]);
    table.write_record(header)?;

    for row in rows {
        for (label, case) in row.metrics {
            let mut record = vec![
                cell(row.prediction_file.unwrap_or_default()),
                cell(row.reference_file),
                row.prediction_file.is_none().to_string(),
            ];
            record.extend(
                kinds
                    .iter()
                    .map(|&kind| cell(row.group.get(kind).map_or("", String::as_str))),
            );
            record.push(cell(label));
            record.extend(Measure::ALL.map(|measure| {
                case.get(measure)
                    .map(|value| value.to_string())
                    .unwrap_or_default()
            }));
            record.extend(COUNTS.map(|(_, count)| count(case).to_string()));
            record.extend(case.spacing_mm.map(|mm| mm.to_string()));
            let reasons = case
                .reasons
                .iter()
                .map(|(measure, why)| format!("{measure}: {why}"));
            let reasons = row.reason.map(str::to_owned).into_iter().chain(reasons);
            record.push(cell(&reasons.collect::<Vec<_>>().join("; ")));
            table.write_record(record)?;
        }
    }
    Ok(table.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.txt");
        atomically(&path, |file| Ok(file.write_all(b"old")?)).unwrap();
        let error = atomically(&path, |file| {
            file.write_all(b"new")?;
            Err("the disk is full".into())
        });
        assert!(error.unwrap_err().to_string().contains("report.txt"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("no/such/folder.json");
        assert!(atomically(&nowhere, |_| Ok(())).is_err());
    }
}
