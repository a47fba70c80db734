//! `dataset.json`, in both versions of nnU-Net's raw layout.

use crate::{Error, Result, json, listing, plan::check_labels};
use liseg_mri::OtherFormat;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which `dataset.json` is written: nnU-Net's first or second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DescriptionVersion {
    /// Version 1: `modality`, labels by value, lists of training and test files.
    V1,
    /// Version 2: `channel_names`, labels by name, `file_ending`.
    #[default]
    V2,
}

/// What `dataset.json` says, in either version.
///
/// ```
/// use liseg_data::{DatasetDescription, DescriptionVersion};
///
/// let mut description = DatasetDescription::new("Liver", [("background", 0), ("liver", 1)]);
/// description.training = Some(25);
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("dataset.json");
/// description.write(&file, DescriptionVersion::V1)?;
/// assert_eq!(DatasetDescription::read(&file)?, description);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetDescription {
    /// Name of the data set; the folder's when the file has none.
    pub name: String,
    /// Free text about the data set.
    pub description: Option<String>,
    /// Terms of use.
    pub licence: Option<String>,
    /// Names of the channels, in order; empty when the file names none.
    pub channels: Vec<String>,
    /// The values of every label by name; more than one value for a region. `background` is 0.
    pub labels: BTreeMap<String, Vec<u8>>,
    /// How file names end: `.nii.gz` or `.nii`.
    pub file_ending: String,
    /// How many labelled cases there are, as promised by the file.
    pub training: Option<usize>,
    /// Cases that the file lists itself (version 2's `dataset`).
    pub listed: Vec<ListedCase>,
    /// Training cases that version 1 lists in `training`, with names that leave out the channel; where
    /// there are any, other files of `imagesTr` and `labelsTr` do not count.
    pub training_list: Vec<ListedCase>,
}

/// A case that `dataset.json` lists with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCase {
    /// The case.
    pub id: String,
    /// One file per channel, relative to the folder of the data set.
    pub images: Vec<PathBuf>,
    /// The label file, relative to the folder of the data set.
    pub label: Option<PathBuf>,
}

impl DatasetDescription {
    /// A description of one MRI channel in `.nii.gz` files.
    pub fn new<'a>(name: &str, labels: impl IntoIterator<Item = (&'a str, u8)>) -> Self {
        Self {
            name: name.to_owned(),
            description: None,
            licence: None,
            channels: vec!["MRI".to_owned()],
            labels: labels
                .into_iter()
                .map(|(name, value)| (name.to_owned(), vec![value]))
                .collect(),
            file_ending: ".nii.gz".to_owned(),
            training: None,
            listed: Vec::new(),
            training_list: Vec::new(),
        }
    }

    /// Reads `dataset.json` of either version.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Json`] when it is malformed, lacks
    /// `labels`, has a label that is no whole number from 0 to 255, or names files of a format that
    /// cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let root: Map<String, Value> = json::read(path)?;
        let folder_name = path
            .parent()
            .and_then(Path::file_name)
            .map_or_else(|| "dataset".into(), |name| name.to_string_lossy());
        parse(&root, &folder_name).map_err(|reason| Error::Json {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads the `dataset.json` of a data set's folder.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self> {
        let file = folder.join("dataset.json");
        if listing::exists(&file)? {
            return Self::read(&file);
        }
        let reason = if folder.is_dir() {
            "it has no dataset.json; expected an nnU-Net raw dataset (imagesTr, labelsTr, dataset.json)"
        } else if folder.exists() {
            "it is a file; expected the folder of an nnU-Net raw dataset"
        } else {
            "there is no such folder"
        };
        Err(Error::Dataset {
            folder: folder.to_owned(),
            reason: format!("{reason}{}", listing::other_format(folder)),
        })
    }

    /// Writes `dataset.json`, whole or not at all.
    ///
    /// Version 1 lists files; [`DatasetDescription::write_v1`] takes the lists, which are empty here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path, version: DescriptionVersion) -> Result<()> {
        match version {
            DescriptionVersion::V1 => self.write_v1(path, &[], &[]),
            DescriptionVersion::V2 => json::write(path, &self.version_2()),
        }
    }

    /// Writes version 1, which lists the ids of the labelled training cases and of the test cases.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_v1(&self, path: &Path, training: &[&str], test: &[&str]) -> Result<()> {
        json::write(path, &self.version_1(training, test))
    }

    fn version_2(&self) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, values)| match values[..] {
                [value] => (name.clone(), json!(value)),
                _ => (name.clone(), json!(values)),
            })
            .collect();
        let mut root = self.common("channel_names");
        root.insert("labels".into(), Value::Object(labels));
        root.insert("numTraining".into(), json!(self.training.unwrap_or(0)));
        root.insert("file_ending".into(), json!(self.file_ending));
        if !self.listed.is_empty() {
            let listed: Map<String, Value> = self
                .listed
                .iter()
                .map(|case| {
                    let mut entry = Map::from_iter([("images".to_owned(), json!(case.images))]);
                    if let Some(label) = &case.label {
                        entry.insert("label".into(), json!(label));
                    }
                    (case.id.clone(), Value::Object(entry))
                })
                .collect();
            root.insert("dataset".into(), Value::Object(listed));
        }
        Value::Object(root)
    }

    fn version_1(&self, training: &[&str], test: &[&str]) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |v| (v.to_string(), json!(name))))
            .collect();
        // The lists of version 1 leave the channel out of the names.
        let pair = |id: &&str| {
            json!({
                "image": format!("./imagesTr/{id}{}", self.file_ending),
                "label": format!("./labelsTr/{id}{}", self.file_ending),
            })
        };
        let image = |id: &&str| json!(format!("./imagesTs/{id}{}", self.file_ending));
        let mut root = self.common("modality");
        root.insert("labels".into(), Value::Object(labels));
        root.insert("tensorImageSize".into(), json!("4D"));
        root.insert(
            "numTraining".into(),
            json!(self.training.unwrap_or(training.len())),
        );
        root.insert("numTest".into(), json!(test.len()));
        root.insert("training".into(), training.iter().map(pair).collect());
        root.insert("test".into(), test.iter().map(image).collect());
        Value::Object(root)
    }

    fn common(&self, channels: &str) -> Map<String, Value> {
        let names: Map<String, Value> = self
            .channels
            .iter()
            .enumerate()
            .map(|(number, name)| (number.to_string(), json!(name)))
            .collect();
        let mut root = Map::from_iter([
            ("name".to_owned(), json!(self.name)),
            (channels.to_owned(), Value::Object(names)),
        ]);
        for (key, text) in [
            ("description", &self.description),
            ("licence", &self.licence),
        ] {
            if let Some(text) = text {
                root.insert(key.into(), json!(text));
            }
        }
        root
    }

    /// The label values by name, for a data set that is used as it is.
    pub(crate) fn plain_labels(&self) -> Result<BTreeMap<String, u8>, String> {
        let mut plain = BTreeMap::new();
        for (name, values) in &self.labels {
            let [value] = values[..] else {
                return Err(format!(
                    "label `{name}` is a region, {values:?}; only values are supported: `liseg \
                     import nnunet --foreground {name}` makes it one label"
                ));
            };
            if name == "ignore" {
                return Err(
                    "the label `ignore` is not supported: leave unlabelled voxels out".into(),
                );
            }
            plain.insert(name.clone(), value);
        }
        check_labels(&plain)?;
        Ok(plain)
    }
}

fn parse(root: &Map<String, Value>, folder_name: &str) -> Result<DatasetDescription, String> {
    let text = |key: &str| root.get(key).and_then(Value::as_str).map(str::to_owned);
    let file_ending = match root.get("file_ending") {
        None => ".nii.gz",
        Some(value) => match value.as_str() {
            Some(ending @ (".nii.gz" | ".nii")) => ending,
            _ => {
                let ending = value.as_str().unwrap_or_default();
                let format = OtherFormat::of_name(Path::new(&format!("image{ending}")));
                let advice = format.map_or("convert the images", OtherFormat::conversion);
                return Err(format!(
                    "file_ending is {value}; .nii.gz and .nii can be read: {advice}"
                ));
            }
        },
    };
    Ok(DatasetDescription {
        name: text("name").unwrap_or_else(|| folder_name.to_owned()),
        description: text("description").filter(|t| !t.is_empty()),
        licence: text("licence").or_else(|| text("license")),
        channels: channels(root)?,
        labels: labels(root)?,
        file_ending: file_ending.to_owned(),
        training: root
            .get("numTraining")
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok()),
        listed: listed(root)?,
        training_list: training_list(root)?,
    })
}

/// `channel_names` of version 2 or `modality` of version 1, in order of their numbers.
fn channels(root: &Map<String, Value>) -> Result<Vec<String>, String> {
    let Some(declared) = root.get("channel_names").or_else(|| root.get("modality")) else {
        return Ok(Vec::new());
    };
    let declared = declared
        .as_object()
        .ok_or("`channel_names` is no object such as {\"0\": \"MRI\"}")?;
    let mut numbered = BTreeMap::new();
    for (number, name) in declared {
        let index: usize = number
            .parse()
            .map_err(|_| format!("`channel_names` has the key `{number}`, no number"))?;
        let name = name
            .as_str()
            .map_or_else(|| name.to_string(), str::to_owned);
        numbered.insert(index, name);
    }
    if numbered.keys().enumerate().any(|(i, &n)| i != n) {
        let found: Vec<_> = numbered.keys().collect();
        return Err(format!(
            "`channel_names` has the numbers {found:?}, not 0, 1, …"
        ));
    }
    Ok(numbered.into_values().collect())
}

/// `labels` by name. Version 2 maps names to values, version 1 values to names.
fn labels(root: &Map<String, Value>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let declared = root
        .get("labels")
        .and_then(Value::as_object)
        .ok_or("`labels` is missing or no object such as {\"background\": 0, \"liver\": 1}")?;
    let mut labels: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, value) in declared {
        let whole = |number: Option<u64>| {
            number
                .and_then(|n| u8::try_from(n).ok())
                .ok_or_else(|| format!("label `{key}`: {value} is no whole number from 0 to 255"))
        };
        let (name, values) = match value {
            Value::String(name) => (name, vec![whole(key.parse().ok())?]),
            Value::Array(list) => {
                let values = list.iter().map(|v| whole(v.as_u64()));
                (key, values.collect::<Result<_, _>>()?)
            }
            other => (key, vec![whole(other.as_u64())?]),
        };
        // Version 1 files write the name of 0 in several ways.
        let name = if values == [0] { "background" } else { name };
        if labels.insert(name.to_owned(), values).is_some() {
            return Err(format!("label `{name}` is declared twice"));
        }
    }
    Ok(labels)
}

/// The cases in `dataset`, {id: {"images": [path], "label": path}}.
fn listed(root: &Map<String, Value>) -> Result<Vec<ListedCase>, String> {
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
    let mut cases = Vec::with_capacity(entries.len());
    for (id, entry) in entries {
        check_id(&id)?;
        cases.push(ListedCase {
            id,
            images: entry.images,
            label: entry.label,
        });
    }
    Ok(cases)
}

/// The cases in version 1's `training`, [{"image": path, "label": path}].
fn training_list(root: &Map<String, Value>) -> Result<Vec<ListedCase>, String> {
    #[derive(Deserialize)]
    struct Entry {
        image: PathBuf,
        label: Option<PathBuf>,
    }
    // Version 2 has `channel_names` and no such list; what is left over there is not looked at.
    let Some(list) = root
        .get("training")
        .filter(|_| !root.contains_key("channel_names"))
    else {
        return Ok(Vec::new());
    };
    let entries: Vec<Entry> =
        serde_json::from_value(list.clone()).map_err(|e| format!("`training`: {e}"))?;
    let mut cases = Vec::with_capacity(entries.len());
    for Entry { image, label } in entries {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let stem = listing::split_ending(&name).map_or(&*name, |(stem, _)| stem);
        let id = stem.strip_suffix("_0000").unwrap_or(stem).to_owned();
        check_id(&id)?;
        cases.push(ListedCase {
            id,
            images: vec![image],
            label,
        });
    }
    Ok(cases)
}

/// The id becomes a file name in stores and predictions.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.starts_with('.') || id.contains(['/', '\\']) {
        return Err(format!("`{id}` cannot be the id of a case"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> DatasetDescription {
        DatasetDescription {
            description: Some("Two phases.".into()),
            licence: Some("CC0".into()),
            channels: vec!["T1".into(), "CT".into()],
            training: Some(3),
            ..DatasetDescription::new("Liver", [("background", 0), ("liver", 1), ("tumour", 2)])
        }
    }

    #[test]
    fn both_versions_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dataset.json");
        for version in [DescriptionVersion::V1, DescriptionVersion::V2] {
            full().write(&file, version).unwrap();
            assert_eq!(
                DatasetDescription::read(&file).unwrap(),
                full(),
                "{version:?}"
            );
        }
        let mut listing = full();
        listing.labels.insert("organ".into(), vec![1, 2]);
        listing.listed.push(ListedCase {
            id: "a".into(),
            images: vec!["x.nii.gz".into(), "y.nii.gz".into()],
            label: Some("l.nii.gz".into()),
        });
        listing.write(&file, DescriptionVersion::V2).unwrap();
        assert_eq!(DatasetDescription::read(&file).unwrap(), listing);
    }

    #[test]
    fn the_fields_are_nnunets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dataset.json");
        full().write_v1(&file, &["a", "b", "c"], &["t"]).unwrap();
        let root: Value = json::read(&file).unwrap();
        assert_eq!(root["modality"], json!({"0": "T1", "1": "CT"}));
        assert_eq!(root["labels"]["2"], "tumour");
        assert_eq!(root["tensorImageSize"], "4D");
        assert_eq!(
            (&root["numTraining"], &root["numTest"]),
            (&json!(3), &json!(1))
        );
        let pair = json!({"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"});
        assert_eq!(root["training"][1], pair);
        assert_eq!(root["test"], json!(["./imagesTs/t.nii.gz"]));

        full().write(&file, DescriptionVersion::V2).unwrap();
        let root: Value = json::read(&file).unwrap();
        assert_eq!(root["channel_names"], json!({"0": "T1", "1": "CT"}));
        assert_eq!(
            root["labels"],
            json!({"background": 0, "liver": 1, "tumour": 2})
        );
        assert_eq!(root["numTraining"], 3);
        assert_eq!(root["file_ending"], ".nii.gz");
    }
}
