//! Other layouts of data sets, and the way from them to nnU-Net's raw layout.

mod atlas;
mod liqa;
mod liqa_info;
mod nnunet;
mod place;
mod run;

pub use place::Placement;
pub use run::{ImportOptions, ImportReport, import};

use crate::{Case, Dataset, Error, Fold, RefusedCase, Result, listing};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How the files of a data set are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// nnU-Net's raw layout, version 1 or 2: `dataset.json`, `imagesTr`, `labelsTr`.
    Nnunet,
    /// LiQA (CARE-Liver): `Vendor_<vendor>/<case>/<phase>.nii.gz` with `mask_GED4.nii.gz`.
    Liqa,
    /// ATLAS 2023: `imagesTr/im<n>.nii.gz`, `labelsTr/lb<n>.nii.gz`, `patient_info_train.json`.
    Atlas,
}

impl Layout {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nnunet => "nnunet",
            Self::Liqa => "liqa",
            Self::Atlas => "atlas",
        }
    }

    /// The layout of a folder, by what is in it; `None` when it looks like none of them.
    pub fn detect(folder: &Path) -> Option<Self> {
        if atlas::root(folder).is_some() {
            Some(Self::Atlas)
        } else if folder.join("dataset.json").is_file() {
            Some(Self::Nnunet)
        } else if !liqa::vendor_folders(folder).is_empty() {
            Some(Self::Liqa)
        } else {
            None
        }
    }

    /// Looks at a folder in this layout as a data set, without importing it: for checks.
    ///
    /// # Errors
    /// As [`Dataset::open`] and [`Layout::survey`].
    pub fn open(self, folder: &Path) -> Result<Dataset> {
        match self {
            Self::Nnunet => Dataset::open(folder),
            _ => self.survey(folder)?.into_dataset(),
        }
    }

    /// Lists what an import would take from a folder; opens no image but those that seem to be copies of
    /// one another.
    ///
    /// # Errors
    /// [`Error::Dataset`] when the folder is not in this layout or has no image; [`Error::Io`] and
    /// [`Error::Json`] for files about the data set that cannot be read.
    pub fn survey(self, folder: &Path) -> Result<Survey> {
        let mut survey = match self {
            Self::Nnunet => nnunet::survey(folder)?,
            Self::Liqa => liqa::survey(folder)?,
            Self::Atlas => atlas::survey(folder)?,
        };
        survey.refuse_repeated();
        survey.cases.sort_by(|a, b| a.id.cmp(&b.id));
        survey.refused.sort_by(|a, b| a.id.cmp(&b.id));
        if survey.cases.is_empty() && survey.refused.is_empty() {
            return Err(Error::Dataset {
                folder: folder.to_owned(),
                reason: format!(
                    "there is no image in the {} layout{}",
                    self.name(),
                    listing::other_format(folder)
                ),
            });
        }
        Ok(survey)
    }
}

impl std::str::FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Nnunet, Self::Liqa, Self::Atlas]
            .into_iter()
            .find(|layout| layout.name() == text)
            .ok_or_else(|| "expected nnunet, liqa or atlas".to_owned())
    }
}

/// What kind of thing an import says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RemarkKind {
    /// Label values became one.
    Merged,
    /// A file, a case or a phase has another name than in the source.
    Renamed,
    /// A file was written anew, with the same voxels.
    Rewritten,
    /// Something was left out.
    Skipped,
    /// Something is odd.
    Noted,
}

/// Something that an import did other than copying, or found odd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    /// What kind of thing it is.
    pub kind: RemarkKind,
    /// The file or folder.
    pub file: PathBuf,
    /// What was found, and what was done.
    pub message: String,
}

impl Remark {
    fn new(kind: RemarkKind, file: &Path, message: impl Into<String>) -> Self {
        Self {
            kind,
            file: file.to_owned(),
            message: message.into(),
        }
    }
}

/// Which values of the label files become which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelRule {
    /// They stay as they are.
    Keep(BTreeMap<String, u8>),
    /// Every value but 0 becomes 1, `liver`: fractions, negative and large values too. What is no
    /// number becomes 0.
    AnyForeground,
    /// The listed values become 1, `liver`; those that are declared but not listed become 0.
    Merge {
        /// Values that become 1.
        foreground: BTreeSet<u8>,
        /// All declared values by name.
        declared: BTreeMap<String, u8>,
    },
}

impl LabelRule {
    /// The labels of the imported data set.
    pub fn labels(&self) -> BTreeMap<String, u8> {
        match self {
            Self::Keep(labels) => labels.clone(),
            _ => BTreeMap::from([("background".to_owned(), 0), ("liver".to_owned(), 1)]),
        }
    }

    /// What a value becomes; `None` for one that is not declared.
    pub fn value(&self, value: u8) -> Option<u8> {
        match self {
            Self::Keep(labels) => labels.values().any(|&v| v == value).then_some(value),
            Self::AnyForeground => Some(u8::from(value > 0)),
            Self::Merge {
                foreground,
                declared,
            } => {
                let known = value == 0
                    || foreground.contains(&value)
                    || declared.values().any(|&v| v == value);
                known.then(|| u8::from(foreground.contains(&value)))
            }
        }
    }
}

/// What an import would take from a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The layout it was looked at in.
    pub layout: Layout,
    /// The folder.
    pub folder: PathBuf,
    /// Name for `dataset.json`.
    pub name: String,
    /// Text for `dataset.json`: what this is and where it comes from.
    pub description: String,
    /// Terms of use, where the source says so.
    pub licence: Option<String>,
    /// What becomes of label values.
    pub rule: LabelRule,
    /// The cases, in order of their ids.
    pub cases: Vec<Case>,
    /// Cases that are not imported, because their files do not say what they are.
    pub refused: Vec<RefusedCase>,
    /// What is left out, renamed or odd.
    pub remarks: Vec<Remark>,
}

impl Survey {
    /// The split that the source declares: labelled cases meant for training and for validation.
    pub fn declared_split(&self) -> Option<Fold> {
        Fold::declared(&self.cases)
    }

    /// Refuses a case.
    fn refuse(&mut self, id: impl Into<String>, files: Vec<PathBuf>, reason: impl Into<String>) {
        self.refused.push(RefusedCase {
            id: id.into(),
            files,
            reason: reason.into(),
        });
    }

    /// Several folders may hold one case, as copies of a collection do: of copies with the same bytes
    /// the first one is taken. Where they differ, nothing tells which one is right.
    fn refuse_repeated(&mut self) {
        let mut by_id: BTreeMap<String, Vec<Case>> = BTreeMap::new();
        for case in std::mem::take(&mut self.cases) {
            by_id.entry(case.id.clone()).or_default().push(case);
        }
        for (id, mut cases) in by_id {
            let first = cases.swap_remove(0);
            if cases.iter().all(|other| same_files(&first, other)) {
                for other in cases {
                    let message = format!(
                        "case `{id}` is there before, with the same bytes, as {}",
                        first.image.display()
                    );
                    let remark = Remark::new(RemarkKind::Skipped, &other.image, message);
                    self.remarks.push(remark);
                }
                self.cases.push(first);
            } else {
                let files = std::iter::once(first).chain(cases);
                let files = files.flat_map(|case| [Some(case.image), case.label]);
                let mut files: Vec<PathBuf> = files.flatten().collect();
                files.sort();
                files.dedup();
                self.refuse(id, files, "the case is there several times, and not alike");
            }
        }
    }

    /// The cases as a data set, with the labels as their files have them.
    fn into_dataset(self) -> Result<Dataset> {
        let labels = match &self.rule {
            LabelRule::Merge { declared, .. } if !declared.is_empty() => declared.clone(),
            rule => rule.labels(),
        };
        let mut dataset = Dataset {
            folder: self.folder,
            name: self.name,
            labels,
            any_foreground: self.rule == LabelRule::AnyForeground,
            cases: self.cases,
            refused: self.refused,
            notes: self
                .remarks
                .into_iter()
                .filter(|remark| matches!(remark.kind, RemarkKind::Skipped | RemarkKind::Noted))
                .map(|remark| (None, remark.file, remark.message))
                .collect(),
        };
        dataset.sort("")?;
        Ok(dataset)
    }
}

/// The visible entries of a folder, in order of their names; none where it cannot be read. What is no
/// text in a name is replaced.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(found) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(String, PathBuf)> = found
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            (!name.starts_with('.') && name != "__MACOSX").then_some((name, path))
        })
        .collect();
    found.sort();
    found
}

/// A file name without `.nii.gz` or `.nii`, in any case of letters; `None` for other files.
fn image_stem(name: &str) -> Option<&str> {
    listing::split_ending(name).map(|(stem, _)| stem)
}

/// Whether two cases have the same bytes.
fn same_files(a: &Case, b: &Case) -> bool {
    let same = |a: &Path, b: &Path| match (liseg_file::read(a), liseg_file::read(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    let labels = match (&a.label, &b.label) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    };
    labels && a.subset == b.subset && same(&a.image, &b.image)
}

/// A path as it is told in `source`: relative to the folder that was imported, with `/`.
fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
