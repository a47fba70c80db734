//! The metrics of a training run, epoch by epoch.

use crate::{Error, Result, RunSpec};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A run that was read.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// By epoch.
    pub(crate) epochs: Vec<Epoch>,
}

/// What is known of an epoch; anything but its number may be unknown.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    pub(crate) epoch: f64,
    pub(crate) iteration: Option<f64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) data_wait: Option<f64>,
    pub(crate) peak_memory: Option<f64>,
    pub(crate) peak_device_memory: Option<f64>,
    pub(crate) terms: BTreeMap<String, f64>,
    pub(crate) validation: BTreeMap<String, f64>,
}

impl Run {
    pub(crate) fn read(spec: &RunSpec) -> Result<Self> {
        let path = &spec.metrics_file;
        let text = liseg_file::read_text(path).map_err(|source| Error::Run {
            run: spec.name.clone(),
            path: path.clone(),
            source,
        })?;
        let mut epochs = BTreeMap::new();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let epoch = Epoch::parse(line).map_err(|found| Error::Record {
                path: path.clone(),
                line: index + 1,
                found,
            })?;
            // A resumed run repeats the epochs since its last checkpoint. No number is negative,
            // so the bits are in the order of the numbers.
            epochs.insert(epoch.epoch.to_bits(), epoch);
        }
        Ok(Self {
            name: spec.name.clone(),
            epochs: epochs.into_values().collect(),
        })
    }

    /// The names of what was logged, in order.
    pub(crate) fn terms(&self) -> BTreeSet<&str> {
        self.epochs
            .iter()
            .flat_map(|epoch| epoch.terms.keys())
            .map(String::as_str)
            .collect()
    }

    /// The names of what was validated, in order.
    pub(crate) fn candidates(&self) -> BTreeSet<&str> {
        self.epochs
            .iter()
            .flat_map(|epoch| epoch.validation.keys())
            .map(String::as_str)
            .collect()
    }

    /// The best validation Dice, its epoch and its candidate.
    pub(crate) fn best(&self) -> Option<(f64, f64, &str)> {
        let epochs = self.epochs.iter();
        let all = epochs.flat_map(|e| {
            e.validation
                .iter()
                .map(|(c, dice)| (*dice, e.epoch, c.as_str()))
        });
        all.reduce(|best, next| if next.0 > best.0 { next } else { best })
    }
}

impl Epoch {
    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let object = value.as_object().ok_or("it is no object")?;
        let number = |field: &str| object.get(field).and_then(Value::as_f64);
        let epoch = number("epoch").filter(|epoch| *epoch >= 0.0);
        Ok(Self {
            // Adding 0 turns -0 into 0.
            epoch: epoch.ok_or("`epoch` is absent or no number of 0 or more")? + 0.0,
            iteration: number("iteration"),
            seconds: number("seconds"),
            data_wait: number("data_wait"),
            peak_memory: number("peak_memory"),
            peak_device_memory: number("peak_device_memory"),
            terms: numbers(object, "terms"),
            validation: numbers(object, "validation"),
        })
    }
}

/// The numbers of a field; a loss that was not finite stands as `"NaN"` or, in files of before, as null, and is left out.
fn numbers(object: &Map<String, Value>, field: &str) -> BTreeMap<String, f64> {
    let fields = object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    fields
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Run> {
        let folder = tempfile::tempdir().unwrap();
        let metrics_file = folder.path().join("metrics.jsonl");
        std::fs::write(&metrics_file, text).unwrap();
        Run::read(&RunSpec {
            name: "r".into(),
            metrics_file,
        })
    }

    #[test]
    fn a_resumed_run_counts_as_last_told_and_gaps_are_no_error() {
        let run = read(
            "{\"epoch\": 1, \"terms\": {\"loss\": 9}}\n\n{\"epoch\": 0, \"validation\": null}\n\
             {\"epoch\": 1, \"terms\": {\"loss\": 2, \"nan\": null}, \"validation\": {\"a\": 0.5, \"b\": 0.7}}\n",
        )
        .unwrap();
        assert_eq!(run.epochs.len(), 2);
        assert_eq!(run.epochs[1].terms, [("loss".to_owned(), 2.0)].into());
        assert_eq!(run.terms().into_iter().collect::<Vec<_>>(), ["loss"]);
        assert_eq!(run.best(), Some((0.7, 1.0, "b")));
    }

    #[test]
    fn a_damaged_line_is_named() {
        for line in ["{\"epoch\": 1", "[]", "{\"epoch\": -1}", "{}"] {
            let error = read(&format!("{{\"epoch\": 0}}\n{line}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("line 2") && error.contains("metrics.jsonl"),
                "{error}"
            );
        }
    }
}
