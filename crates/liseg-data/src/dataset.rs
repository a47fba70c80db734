//! A data set on disk: which images there are, which have labels, and where each comes from.

use crate::description::{CaseAttributes, Description};
use crate::{Error, Result, json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a case may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subset {
    /// For training, with a label.
    Labelled,
    /// For training, without a label.
    Unlabelled,
    /// Not for training.
    Test,
}

/// One image, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Unique name within the data set: the file name without channel and ending.
    pub id: String,
    /// The image file.
    pub image: PathBuf,
    /// The label file on the grid of the image; always there in [`Subset::Labelled`].
    pub label: Option<PathBuf>,
    /// What the case may be used for.
    pub subset: Subset,
    /// Images of one patient share this name.
    pub patient: Option<String>,
    /// Phase or sequence of the image, such as `GED4` or `T2`.
    pub phase: Option<String>,
    /// Vendor or centre that the image comes from.
    pub vendor: Option<String>,
}

impl Case {
    /// The patient, or the id of a case whose patient is unknown: what must not be torn apart when
    /// cases are split.
    pub fn group(&self) -> &str {
        self.patient.as_deref().unwrap_or(&self.id)
    }
}

/// A data set in nnU-Net's raw layout, version 2 or 1, with one channel per image.
///
/// `imagesTr` holds training images `<id>_0000<ending>`, labelled where `labelsTr` has
/// `<id><ending>`; `imagesUn` holds more training images without labels; `imagesTs` test images,
/// with labels in `labelsTs` where known. An optional `cases.json` beside `dataset.json`, a list of
/// objects `{"id", "patient", "phase", "vendor"}`, says where images come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    folder: PathBuf,
    description: Description,
    cases: Vec<Case>,
    notes: Vec<(Option<String>, PathBuf, String)>,
}

impl Dataset {
    /// Finds the cases of a data set; opens no image.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Json`] for a missing or malformed `dataset.json` or `cases.json`,
    /// [`Error::Channels`] for several channels, [`Error::Dataset`] when there is no image at all, or
    /// when one case id occurs twice.
    pub fn open(folder: &Path) -> Result<Self> {
        let description = Description::read(&folder.join("dataset.json"))?;
        let mut dataset = Self {
            folder: folder.to_owned(),
            description,
            cases: Vec::new(),
            notes: Vec::new(),
        };
        if dataset.description.listed.is_empty() {
            dataset.scan("imagesTr", Some("labelsTr"), Subset::Labelled)?;
            dataset.scan("imagesUn", None, Subset::Unlabelled)?;
        } else {
            dataset.take_listed()?;
        }
        dataset.scan("imagesTs", Some("labelsTs"), Subset::Test)?;
        dataset.cases.sort_by(|a, b| a.id.cmp(&b.id));
        if dataset.cases.is_empty() {
            return Err(dataset.error(format!(
                "no image *{} in imagesTr, imagesUn or imagesTs",
                dataset.description.file_ending
            )));
        }
        if let Some(pair) = dataset.cases.windows(2).find(|p| p[0].id == p[1].id) {
            return Err(dataset.error(format!(
                "case `{}` occurs twice, as {} and {}: rename one of them",
                pair[0].id,
                pair[0].image.display(),
                pair[1].image.display()
            )));
        }
        dataset.take_attributes()?;
        dataset.compare_count();
        Ok(dataset)
    }

    /// The folder of the data set.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name in `dataset.json`, or else the name of the folder.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// Declared label values by name; `background` is 0.
    pub fn labels(&self) -> &BTreeMap<String, u8> {
        &self.description.labels
    }

    /// All cases, in order of their ids.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The cases of one subset, in order of their ids.
    pub fn subset(&self, subset: Subset) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| case.subset == subset)
    }

    /// What was odd while the cases were found: case, file, message.
    pub(crate) fn notes(&self) -> &[(Option<String>, PathBuf, String)] {
        &self.notes
    }

    fn error(&self, reason: String) -> Error {
        Error::Dataset {
            folder: self.folder.clone(),
            reason,
        }
    }

    /// Adds the cases of one pair of folders; a missing folder has none.
    fn scan(&mut self, images: &str, labels: Option<&str>, subset: Subset) -> Result<()> {
        let ending = self.description.file_ending.clone();
        let image_folder = self.folder.join(images);
        let mut channels: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
        for (stem, path) in files(&image_folder, &ending)? {
            let (id, channel) = split_channel(&stem);
            let found = (channel.to_owned(), path);
            channels.entry(id.to_owned()).or_default().push(found);
        }
        let mut label_files: BTreeMap<String, PathBuf> = match labels {
            Some(name) => files(&self.folder.join(name), &ending)?
                .into_iter()
                .collect(),
            None => BTreeMap::new(),
        };
        for (id, found) in channels {
            let [(channel, image)] = &found[..] else {
                return Err(channel_error(image_folder, id, &found));
            };
            if !channel.is_empty() && channel != "_0000" {
                return Err(channel_error(image_folder, id, &found));
            }
            let label = label_files.remove(&id);
            let subset = match subset {
                Subset::Labelled if label.is_none() => Subset::Unlabelled,
                other => other,
            };
            self.cases.push(case(id, image.clone(), label, subset));
        }
        for (id, path) in label_files {
            let message = format!("label without an image {id}_0000{ending} in {images}");
            self.notes.push((Some(id), path, message));
        }
        Ok(())
    }

    /// Adds the cases that `dataset.json` lists itself.
    fn take_listed(&mut self) -> Result<()> {
        for (id, image, label) in &self.description.listed {
            let label = label.as_ref().map(|path| self.folder.join(path));
            let subset = match label {
                Some(_) => Subset::Labelled,
                None => Subset::Unlabelled,
            };
            // The id becomes a file name in stores and predictions.
            if id.is_empty() || id.starts_with('.') || id.contains(['/', '\\']) {
                return Err(self.error(format!("`{id}` cannot be the id of a case")));
            }
            let found = case(id.clone(), self.folder.join(image), label, subset);
            self.cases.push(found);
        }
        Ok(())
    }

    /// Adds patient, phase and vendor from `cases.json`, where there is one.
    fn take_attributes(&mut self) -> Result<()> {
        let path = self.folder.join("cases.json");
        if !path.exists() {
            return Ok(());
        }
        let list: Vec<CaseAttributes> = json::read(&path)?;
        let mut seen = BTreeSet::new();
        for attributes in list {
            if !seen.insert(attributes.id.clone()) {
                return Err(Error::Json {
                    path,
                    reason: format!("case `{}` is listed twice", attributes.id),
                });
            }
            match self
                .cases
                .binary_search_by(|case| case.id.as_str().cmp(&attributes.id))
            {
                Ok(index) => {
                    let case = &mut self.cases[index];
                    case.patient = attributes.patient;
                    case.phase = attributes.phase;
                    case.vendor = attributes.vendor;
                }
                Err(_) => {
                    let message = format!("lists case `{}`, which has no image", attributes.id);
                    self.notes
                        .push((Some(attributes.id), path.clone(), message));
                }
            }
        }
        Ok(())
    }

    /// Compares the number of labelled cases with what `dataset.json` promises.
    fn compare_count(&mut self) {
        let found = self.subset(Subset::Labelled).count();
        match self.description.num_training {
            Some(promised) if promised != found => {
                let message = format!("numTraining is {promised}, but {found} cases have labels");
                let path = self.folder.join("dataset.json");
                self.notes.push((None, path, message));
            }
            _ => {}
        }
    }
}

fn case(id: String, image: PathBuf, label: Option<PathBuf>, subset: Subset) -> Case {
    Case {
        id,
        image,
        label,
        subset,
        patient: None,
        phase: None,
        vendor: None,
    }
}

fn channel_error(folder: PathBuf, case: String, found: &[(String, PathBuf)]) -> Error {
    Error::Channels {
        folder,
        case,
        found: found.iter().map(|(channel, _)| channel.clone()).collect(),
    }
}

/// The visible files of a folder with that ending, as (name without ending, path), in order of
/// their names; none where the folder is missing.
fn files(folder: &Path, ending: &str) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("reading", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("reading", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        match name.strip_suffix(ending) {
            Some(stem) if !stem.is_empty() && !name.starts_with('.') => {
                found.push((stem.to_owned(), path));
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Splits `case_0000` into `case` and `_0000`; a name without a channel has an empty one.
fn split_channel(stem: &str) -> (&str, &str) {
    let at = stem.len().saturating_sub(5);
    match stem.get(at..) {
        Some(channel)
            if at > 0
                && channel.starts_with('_')
                && channel[1..].bytes().all(|b| b.is_ascii_digit()) =>
        {
            (&stem[..at], channel)
        }
        _ => (stem, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn finds_labelled_unlabelled_and_test_cases() {
        let (folder, dataset) = testing::dataset();
        let subsets: Vec<Subset> = dataset.cases().iter().map(|c| c.subset).collect();
        use Subset::{Labelled, Test, Unlabelled};
        let expected = [Labelled, Labelled, Labelled, Unlabelled, Unlabelled, Test];
        assert_eq!(subsets, expected);
        assert_eq!(dataset.name(), "tiny");
        assert_eq!(dataset.labels(), &testing::labels());
        let case = &dataset.cases()[3];
        assert_eq!(
            case.image,
            folder.path().join("imagesTr/case_3_0000.nii.gz")
        );
        assert_eq!(case.patient.as_deref(), Some("patient_1"));
        assert_eq!(case.phase.as_deref(), Some("T2"));
        assert_eq!(
            (case.vendor.as_deref(), case.label.as_ref()),
            (Some("A"), None)
        );
        assert!(dataset.cases()[5].label.is_some());
    }

    #[test]
    fn notes_what_is_odd() {
        let (folder, _) = testing::dataset();
        let path = |name: &str| folder.path().join(name);
        std::fs::rename(
            path("imagesTr/case_0_0000.nii.gz"),
            path("imagesTr/.hidden"),
        )
        .unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let findings = dataset.check_headers();
        let has = |text: &str| findings.iter().any(|f| f.message.contains(text));
        assert!(
            has("label without an image case_0_0000.nii.gz in imagesTr"),
            "{findings:?}"
        );
        assert!(has("numTraining is 3, but 2 cases have labels"));
        assert!(has("lists case `case_0`, which has no image"));
    }

    #[test]
    fn accepts_version_1_and_a_list_of_cases() {
        let (folder, _) = testing::dataset();
        let path = folder.path().join("dataset.json");
        let version_1 = r#"{"name": "old", "modality": {"0": "MRI"}, "tensorImageSize": "4D",
            "labels": {"0": "back ground", "1": "liver"}, "numTraining": 3, "numTest": 0,
            "training": [{"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr/case_0.nii.gz"}],
            "test": []}"#;
        std::fs::write(&path, version_1).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.labels(), &testing::labels());
        assert_eq!(dataset.subset(Subset::Labelled).count(), 3);

        let listed = r#"{"channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1},
            "file_ending": ".nii.gz", "dataset": {
                "a": {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"},
                "b": {"images": ["imagesUn/case_4_0000.nii.gz"]}}}"#;
        std::fs::write(&path, listed).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let ids: Vec<_> = dataset
            .cases()
            .iter()
            .map(|c| (c.id.as_str(), c.subset))
            .collect();
        let expected = [
            ("a", Subset::Labelled),
            ("b", Subset::Unlabelled),
            ("case_5", Subset::Test),
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let (folder, _) = testing::dataset();
        let path = |name: &str| folder.path().join(name);
        let error = || Dataset::open(folder.path()).unwrap_err();

        std::fs::copy(
            path("imagesTr/case_0_0000.nii.gz"),
            path("imagesUn/case_0_0000.nii.gz"),
        )
        .unwrap();
        assert!(error().to_string().contains("case `case_0` occurs twice"));
        std::fs::rename(
            path("imagesUn/case_0_0000.nii.gz"),
            path("imagesTr/case_0_0001.nii.gz"),
        )
        .unwrap();
        assert!(matches!(error(), Error::Channels { case, found, .. }
            if case == "case_0" && found == ["_0000", "_0001"]));

        for (text, part) in [
            ("{", "EOF"),
            ("{}", "`labels` is missing"),
            (
                r#"{"labels": {"background": 0, "liver": 2}}"#,
                "not consecutive",
            ),
            (r#"{"labels": {"liver": 1}}"#, "lacks `background`"),
            (r#"{"labels": {"background": 0, "all": [1, 2]}}"#, "region"),
            (
                r#"{"labels": {"background": 0, "liver": -1}}"#,
                "no whole number",
            ),
            (
                r#"{"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "T1", "1": "T2"}}"#,
                "2 channels",
            ),
            (
                r#"{"labels": {"background": 0, "liver": 1}, "file_ending": ".png"}"#,
                ".png",
            ),
        ] {
            std::fs::write(path("dataset.json"), text).unwrap();
            let message = error().to_string();
            assert!(
                message.contains(part) && message.contains("dataset.json"),
                "{message}"
            );
        }

        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Dataset::open(empty.path()), Err(Error::Io { .. })));
        let text = r#"{"labels": {"background": 0, "liver": 1}}"#;
        std::fs::write(empty.path().join("dataset.json"), text).unwrap();
        let message = Dataset::open(empty.path()).unwrap_err().to_string();
        assert!(message.contains("no image *.nii.gz"), "{message}");
    }

    #[test]
    fn channels_are_split_from_names() {
        assert_eq!(split_channel("case_0001_0000"), ("case_0001", "_0000"));
        assert_eq!(split_channel("liver"), ("liver", ""));
        assert_eq!(split_channel("_0000"), ("_0000", ""));
        assert_eq!(split_channel("Größe"), ("Größe", ""));
    }
}
