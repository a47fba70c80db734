//! `dataset.json` and `cases.json`.

use crate::{Error, Result, json, plan::check_labels};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `dataset.json` says, in either version of nnU-Net's raw format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, u8>,
    pub(crate) file_ending: String,
    pub(crate) num_training: Option<usize>,
    /// Cases that the file lists itself (version 2's `dataset`): id, image, label.
    pub(crate) listed: Vec<(String, PathBuf, Option<PathBuf>)>,
}

/// One entry of `cases.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseAttributes {
    /// The case.
    pub id: String,
    /// Images of one patient share this name.
    #[serde(default)]
    pub patient: Option<String>,
    /// Phase or sequence, such as `GED4` or `T2`.
    #[serde(default)]
    pub phase: Option<String>,
    /// Vendor or centre.
    #[serde(default)]
    pub vendor: Option<String>,
}

impl Description {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let root: Map<String, Value> = json::read(path)?;
        let folder_name = path
            .parent()
            .and_then(|parent| parent.file_name())
            .map_or_else(|| "dataset".into(), |name| name.to_string_lossy());
        let read = || -> Result<Self, String> {
            let channels = root
                .get("channel_names")
                .or_else(|| root.get("modality"))
                .and_then(Value::as_object)
                .map(Map::len);
            if let Some(count) = channels.filter(|&count| count != 1) {
                return Err(format!(
                    "it declares {count} channels; one is supported: make every phase a case of \
                     its own and name its phase in cases.json"
                ));
            }
            let file_ending = match root.get("file_ending") {
                None => ".nii.gz",
                Some(value) => match value.as_str() {
                    Some(ending @ (".nii.gz" | ".nii")) => ending,
                    _ => {
                        return Err(format!(
                            "file_ending is {value}; .nii.gz and .nii can be read"
                        ));
                    }
                },
            };
            Ok(Self {
                name: root
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or(&folder_name)
                    .to_owned(),
                labels: labels(&root)?,
                file_ending: file_ending.to_owned(),
                num_training: root
                    .get("numTraining")
                    .and_then(Value::as_u64)
                    .and_then(|n| usize::try_from(n).ok()),
                listed: listed(&root)?,
            })
        };
        read().map_err(|reason| Error::Json {
            path: path.to_owned(),
            reason,
        })
    }
}

/// `labels` by name. Version 2 maps names to values, version 1 values to names.
fn labels(root: &Map<String, Value>) -> Result<BTreeMap<String, u8>, String> {
    let declared = root
        .get("labels")
        .and_then(Value::as_object)
        .ok_or("`labels` is missing or no object such as {\"background\": 0, \"liver\": 1}")?;
    let mut labels = BTreeMap::new();
    for (key, value) in declared {
        let (name, number) = match value {
            Value::String(name) => (name, key.parse::<u64>().ok()),
            Value::Number(number) => (key, number.as_u64()),
            Value::Array(_) => {
                return Err(format!(
                    "label `{key}` is a region (a list); only values are supported"
                ));
            }
            _ => (key, None),
        };
        let number = number
            .and_then(|n| u8::try_from(n).ok())
            .ok_or_else(|| format!("label `{key}`: {value} is no whole number from 0 to 255"))?;
        if name == "ignore" {
            return Err("the label `ignore` is not supported: leave unlabelled voxels out".into());
        }
        // Version 1 files write the name of 0 in several ways.
        let name = if number == 0 { "background" } else { name };
        if labels.insert(name.to_owned(), number).is_some() {
            return Err(format!("label `{name}` is declared twice"));
        }
    }
    check_labels(&labels)?;
    Ok(labels)
}

/// The cases in `dataset`, {id: {"images": [path], "label": path}}.
fn listed(root: &Map<String, Value>) -> Result<Vec<(String, PathBuf, Option<PathBuf>)>, String> {
    let Some(list) = root.get("dataset") else {
        return Ok(Vec::new());
    };
    #[derive(Deserialize)]
    struct Entry {
        images: Vec<PathBuf>,
        label: Option<PathBuf>,
    }
    let entries: BTreeMap<String, Entry> =
        serde_json::from_value(list.clone()).map_err(|e| format!("`dataset`: {e}"))?;
    entries
        .into_iter()
        .map(|(id, entry)| match <[PathBuf; 1]>::try_from(entry.images) {
            Ok([image]) => Ok((id, image, entry.label)),
            Err(images) => Err(format!(
                "`dataset`: case `{id}` has {} images; one channel is supported",
                images.len()
            )),
        })
        .collect()
}
