//! A data set on disk: which images there are, which have labels, and where each comes from.

use crate::{
    CaseAttributes, DatasetDescription, Error, Result, listing,
    pairs::{self, Pair, Pairs},
};
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
    /// What the collection meant it for: `train`, `val` or `test`. For information, and for
    /// [`Fold::declared`](crate::Fold::declared); [`Case::subset`] decides.
    pub split: Option<String>,
    /// Where it was imported from.
    pub source: Option<String>,
}

impl Case {
    /// A case of which nothing but its place is known.
    pub fn new(id: impl Into<String>, image: impl Into<PathBuf>, subset: Subset) -> Self {
        Self {
            id: id.into(),
            image: image.into(),
            label: None,
            subset,
            patient: None,
            phase: None,
            vendor: None,
            split: None,
            source: None,
        }
    }

    /// The patient, or the id of a case whose patient is unknown: what must not be torn apart when
    /// cases are split.
    pub fn group(&self) -> &str {
        self.patient.as_deref().unwrap_or(&self.id)
    }
}

/// A case that is there and cannot be used, because its files do not say what they are.
///
/// It is not among the cases of a data set; checks report it as an error, and whatever works on all
/// cases counts it as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCase {
    /// The case, as far as the names of the files tell it.
    pub id: String,
    /// All files in question.
    pub files: Vec<PathBuf>,
    /// What is wrong with them.
    pub reason: String,
}

impl RefusedCase {
    /// The case as an error.
    pub fn error(&self) -> Error {
        Error::Refused {
            files: self.files.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// A data set in nnU-Net's raw layout, version 2 or 1, with one channel per image.
///
/// `imagesTr` holds training images `<id>_0000<ending>`, labelled where `labelsTr` has
/// `<id><ending>`; `imagesUn` holds more training images without labels; `imagesTs` test images,
/// with labels in `labelsTs` where known. Both endings of NIfTI files are read, in any case of letters,
/// and labels that also carry the channel; checks note what is not as `dataset.json` says. Where
/// several files claim to be the image or the label of one case, the case is a [`RefusedCase`]. An optional `cases.json` beside `dataset.json`, a list of
/// [`CaseAttributes`], says where images come from.
///
/// Other layouts can be looked at as they are ([`Layout::open`](crate::Layout::open)) and imported
/// into this one ([`import`](crate::import())).
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, u8>,
    /// Whether every value but 0 counts as foreground when it is imported.
    pub(crate) any_foreground: bool,
    pub(crate) cases: Vec<Case>,
    pub(crate) refused: Vec<RefusedCase>,
    pub(crate) notes: Vec<(Option<String>, PathBuf, String)>,
}

impl Dataset {
    /// Finds the cases of a data set; opens no image.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Json`] for an unreadable or malformed `dataset.json` or `cases.json`,
    /// [`Error::Channels`] for several channels, [`Error::Dataset`] when there is no `dataset.json` or no
    /// image at all, or when one case id occurs twice.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("dataset.json");
        let description = DatasetDescription::of_folder(folder)?;
        let bad = |reason| Error::Json {
            path: file.clone(),
            reason,
        };
        let labels = description.plain_labels().map_err(bad)?;
        if description.channels.len() > 1 {
            return Err(bad(format!(
                "it declares {} channels; one is supported: `liseg import nnunet` makes every \
                 channel a case of its own",
                description.channels.len()
            )));
        }
        let mut dataset = Self {
            folder: folder.to_owned(),
            name: description.name.clone(),
            labels,
            any_foreground: false,
            cases: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
        };
        let ending = &description.file_ending;
        if description.listed.is_empty() {
            dataset.take_training(&description)?;
            dataset.scan("imagesUn", None, Subset::Unlabelled, ending)?;
        } else {
            dataset.take_listed(&description)?;
        }
        dataset.scan("imagesTs", Some("labelsTs"), Subset::Test, ending)?;
        dataset.sort(ending)?;
        dataset.take_attributes()?;
        dataset.compare_count(description.training);
        Ok(dataset)
    }

    /// Puts cases in order of their ids.
    ///
    /// # Errors
    /// [`Error::Dataset`] when there are none, or one id occurs twice.
    pub(crate) fn sort(&mut self, ending: &str) -> Result<()> {
        self.cases.sort_by(|a, b| a.id.cmp(&b.id));
        if let (true, Some(refused)) = (self.cases.is_empty(), self.refused.first()) {
            return Err(Error::of_case(&refused.id)(refused.error()));
        }
        if self.cases.is_empty() {
            return Err(self.error(format!(
                "no image *{ending} in imagesTr, imagesUn or imagesTs"
            )));
        }
        match self.cases.windows(2).find(|p| p[0].id == p[1].id) {
            None => Ok(()),
            Some(pair) => Err(self.error(format!(
                "case `{}` occurs twice, as {} and {}: rename one of them",
                pair[0].id,
                pair[0].image.display(),
                pair[1].image.display()
            ))),
        }
    }

    /// The folder of the data set.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name in `dataset.json`, or else the name of the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Declared label values by name; `background` is 0.
    pub fn labels(&self) -> &BTreeMap<String, u8> {
        &self.labels
    }

    /// All cases, in order of their ids.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The cases of one subset, in order of their ids.
    pub fn subset(&self, subset: Subset) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| case.subset == subset)
    }

    /// Cases that cannot be used, because their files do not say what they are; not among
    /// [`Dataset::cases`].
    pub fn refused(&self) -> &[RefusedCase] {
        &self.refused
    }

    /// What was odd while the cases were found, each with its file: other spellings, files that are passed over.
    pub fn oddities(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter();
        notes.map(|(_, file, message)| format!("{}: {message}", file.display()))
    }

    /// What was odd while the cases were found: case, file, message.
    pub(crate) fn notes(&self) -> &[(Option<String>, PathBuf, String)] {
        &self.notes
    }

    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Dataset {
            folder: self.folder.clone(),
            reason,
        }
    }

    /// Adds the training cases: those of version 1's list, or else those of the folders.
    fn take_training(&mut self, description: &DatasetDescription) -> Result<()> {
        if description.training_list.is_empty() {
            let ending = &description.file_ending;
            return self.scan("imagesTr", Some("labelsTr"), Subset::Labelled, ending);
        }
        let found = pairs::of_list(&self.folder, &description.training_list, "imagesTr")?;
        self.take_pairs(found, "imagesTr", Subset::Labelled)
    }

    /// Adds the cases of one pair of folders; a missing folder has none.
    fn scan(
        &mut self,
        images: &str,
        labels: Option<&str>,
        subset: Subset,
        ending: &str,
    ) -> Result<()> {
        let found = pairs::find(&self.folder, images, labels, ending)?;
        self.take_pairs(found, images, subset)
    }

    fn take_pairs(&mut self, found: Pairs, images: &str, subset: Subset) -> Result<()> {
        for pair in found.pairs {
            let image = match &pair.channels[..] {
                [(channel, image)] if channel.is_empty() || channel == "_0000" => image.clone(),
                _ => return Err(self.channel_error(images, pair)),
            };
            let subset = match subset {
                Subset::Labelled if pair.label.is_none() => Subset::Unlabelled,
                other => other,
            };
            self.cases.push(Case {
                label: pair.label,
                ..Case::new(pair.id, image, subset)
            });
        }
        self.refused.extend(found.refused);
        self.notes.extend(found.notes);
        Ok(())
    }

    fn channel_error(&self, images: &str, pair: Pair) -> Error {
        Error::Channels {
            folder: self.folder.join(images),
            case: pair.id,
            found: pair.channels.into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// Adds the cases that `dataset.json` lists itself.
    fn take_listed(&mut self, description: &DatasetDescription) -> Result<()> {
        for listed in &description.listed {
            let [image] = &listed.images[..] else {
                return Err(Error::Json {
                    path: self.folder.join("dataset.json"),
                    reason: format!(
                        "`dataset`: case `{}` has {} images; one channel is supported",
                        listed.id,
                        listed.images.len()
                    ),
                });
            };
            let subset = match listed.label {
                Some(_) => Subset::Labelled,
                None => Subset::Unlabelled,
            };
            self.cases.push(Case {
                label: listed.label.as_ref().map(|path| self.folder.join(path)),
                ..Case::new(&listed.id, self.folder.join(image), subset)
            });
        }
        Ok(())
    }

    /// Adds patient, phase and vendor from `cases.json`, where there is one.
    fn take_attributes(&mut self) -> Result<()> {
        let path = self.folder.join("cases.json");
        if !listing::exists(&path)? {
            return Ok(());
        }
        let list = CaseAttributes::read_list(&path)?;
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
                    case.split = attributes.split;
                    case.source = attributes.source;
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
    fn compare_count(&mut self, promised: Option<usize>) {
        let found = self.subset(Subset::Labelled).count();
        match promised {
            Some(promised) if promised != found => {
                let message = format!("numTraining is {promised}, but {found} cases have labels");
                let path = self.folder.join("dataset.json");
                self.notes.push((None, path, message));
            }
            _ => {}
        }
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
    fn a_case_that_two_files_claim_is_refused() {
        let (folder, _) = testing::dataset();
        let path = |name: &str| folder.path().join(name);
        std::fs::copy(path("labelsTr/case_1.nii.gz"), path("labelsTr/case_1.nii")).unwrap();
        let other = path("labelsTr/case_2_0000.nii.gz");
        std::fs::rename(path("labelsTr/case_2.nii.gz"), other).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.cases().len(), 5);
        assert_eq!(dataset.subset(Subset::Labelled).count(), 2);
        let [refused] = dataset.refused() else {
            panic!("{:?}", dataset.refused())
        };
        assert_eq!(refused.id, "case_1");
        let errors: Vec<_> = dataset.check_headers().into_iter().collect();
        assert_eq!(errors[0].severity, crate::Severity::Error);
        for part in ["case_1.nii, ", "case_1.nii.gz", "claim to be its label"] {
            assert!(errors[0].message.contains(part), "{}", errors[0].message);
        }
        let store = tempfile::tempdir().unwrap();
        let (plan, options) = (testing::tiny_plan(), crate::PreprocessOptions::default());
        let report =
            crate::preprocess_dataset(&dataset, &plan, store.path(), &options, |_| {}).unwrap();
        assert!(report.failed.len() == 1 && report.failed[0].0 == "case_1");
        let (_, failed) = crate::Fingerprint::of_readable(&dataset).unwrap();
        assert!(failed.len() == 1 && failed[0].0 == "case_1");
    }

    #[test]
    fn accepts_version_1_and_a_list_of_cases() {
        let (folder, _) = testing::dataset();
        let path = folder.path().join("dataset.json");
        let version_1 = r#"{"name": "old", "modality": {"0": "MRI"}, "tensorImageSize": "4D",
            "labels": {"0": "back ground", "1": "liver"}, "numTraining": 3, "numTest": 0,
            "training": [], "test": []}"#;
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
    fn the_list_of_version_1_counts() {
        let (folder, _) = testing::dataset();
        let path = |name: &str| folder.path().join(name);
        // A second reader's labels, of two of the four cases in the folder.
        std::fs::rename(path("labelsTr"), path("labelsTr2")).unwrap();
        let list = |second: &str| {
            let text = format!(
                r#"{{"modality": {{"0": "MR"}}, "labels": {{"0": "background", "1": "liver"}},
                "numTraining": 2, "training": [
                {{"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr2/case_0.nii.gz"}},
                {{"image": "./imagesTr/{second}.nii.gz", "label": "./labelsTr2/case_2.nii.gz"}}]}}"#
            );
            std::fs::write(path("dataset.json"), text).unwrap();
            Dataset::open(folder.path()).unwrap()
        };
        for second in ["case_2", "case_2_0000"] {
            let dataset = list(second);
            let ids: Vec<&str> = dataset.cases().iter().map(|c| c.id.as_str()).collect();
            assert_eq!(ids, ["case_0", "case_2", "case_4", "case_5"]);
            let case = &dataset.cases()[0];
            assert!(case.image.ends_with("imagesTr/case_0_0000.nii.gz"));
            let label = case.label.as_ref().unwrap();
            assert!(label.ends_with("labelsTr2/case_0.nii.gz"));
            let findings = dataset.check();
            assert!(
                findings
                    .iter()
                    .all(|f| f.severity == crate::Severity::Warning)
            );
            let unlisted =
                "does not list case_1_0000.nii.gz, case_3_0000.nii.gz, which are left out";
            assert!(findings[0].message.contains(unlisted), "{findings:?}");
        }
        let dataset = list("case_9");
        let errors = dataset.check_headers().into_iter();
        let mut errors = errors.filter(|f| f.severity == crate::Severity::Error);
        assert!(
            errors
                .next()
                .unwrap()
                .file
                .ends_with("imagesTr/case_9.nii.gz")
        );
        assert_eq!(errors.next(), None);
        let dataset = list("case_0_0000");
        assert_eq!(dataset.refused().len(), 1);
        assert_eq!(dataset.subset(Subset::Labelled).count(), 0);
    }

    #[test]
    fn descriptions_may_have_a_byte_order_mark() {
        let (folder, expected) = testing::dataset();
        for name in ["dataset.json", "cases.json"] {
            let path = folder.path().join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("\u{feff}{text}\r\n")).unwrap();
        }
        assert_eq!(Dataset::open(folder.path()).unwrap(), expected);
        assert_eq!(expected.check_headers(), []);
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
        let message = Dataset::open(empty.path()).unwrap_err().to_string();
        assert!(message.contains("no dataset.json"), "{message}");
        let text = r#"{"labels": {"background": 0, "liver": 1}}"#;
        std::fs::write(empty.path().join("dataset.json"), text).unwrap();
        let message = Dataset::open(empty.path()).unwrap_err().to_string();
        assert!(message.contains("no image *.nii.gz"), "{message}");
    }
}
