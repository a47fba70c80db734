//! The import itself.

use super::place::{self, Placement};
use super::{LabelRule, Remark, RemarkKind, Survey};
use crate::{
    Case, CaseAttributes, DatasetDescription, DescriptionVersion, Error, Fold, Result, Subset,
    split,
};
use liseg_file::NewFolder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What to do other than the layout asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportOptions {
    /// How files that do not change come to their new place.
    pub placement: Placement,
    /// Labels, by name or value, that become 1, `liver`; all others become background.
    pub foreground: Vec<String>,
    /// Name for `dataset.json` in place of the collection's.
    pub name: Option<String>,
    /// Whether `dataset.json` is written in version 1, for old programs.
    pub version_1: bool,
}

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Labelled training cases.
    pub labelled: usize,
    /// Unlabelled training cases.
    pub unlabelled: usize,
    /// Test cases.
    pub test: usize,
    /// What was merged, renamed, rewritten, left out or odd, by kind and file.
    pub remarks: Vec<Remark>,
    /// Cases that could not be imported, and why.
    pub failed: Vec<(String, Error)>,
    /// The split that the source declares, as it was written to `splits_final.json`.
    pub split: Option<Fold>,
}

/// Imports a survey into nnU-Net's raw layout: `imagesTr`, `labelsTr`, `imagesUn`, `imagesTs`,
/// `labelsTs`, `dataset.json`, `cases.json`, and `splits_final.json` where the source has a split.
///
/// A file of which nothing changes is copied or linked as it is. Other cases go on when one fails;
/// failures are in the report and not in the data set. The folder appears under its name when it is
/// complete. `progress` is called from several threads with cases done and cases in all.
///
/// # Errors
/// [`Error::Dataset`] when the folder exists and is not empty, when no case could be imported, or
/// for labels that cannot be kept as they are; [`Error::Setting`] for an unknown foreground label;
/// [`Error::Io`].
pub fn import(
    survey: Survey,
    out: &Path,
    options: &ImportOptions,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<ImportReport> {
    let rule = rule(&survey, options)?;
    let occupied = |reason: &str| Error::Dataset {
        folder: out.to_owned(),
        reason: reason.to_owned(),
    };
    let exists = out.symlink_metadata().is_ok();
    if exists && !std::fs::read_dir(out).is_ok_and(|mut found| found.next().is_none()) {
        return Err(occupied("it exists and is not empty; choose another --out"));
    }
    let new = NewFolder::begin(out).map_err(Error::io("creating", out))?;
    let root = new.path();

    let ending = common_ending(&survey.cases);
    let work = Work {
        root: &root,
        ending,
        rule: &rule,
        placement: options.placement,
    };
    let total = survey.cases.len();
    for folder in ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"] {
        if folder == "imagesTr" || survey.cases.iter().any(|case| uses(case, folder)) {
            let folder = root.join(folder);
            std::fs::create_dir_all(&folder).map_err(Error::io("creating", folder))?;
        }
    }
    let done = AtomicUsize::new(0);
    let placed: Vec<(Case, Result<Vec<Remark>>)> = survey
        .cases
        .into_par_iter()
        .map(|case| {
            let result = work.case(&case);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            (case, result)
        })
        .collect();

    let mut report = ImportReport {
        remarks: survey.remarks,
        failed: survey
            .refused
            .iter()
            .map(|case| (case.id.clone(), case.error()))
            .collect(),
        ..ImportReport::default()
    };
    let mut cases = Vec::with_capacity(placed.len());
    for (case, result) in placed {
        match result {
            Ok(remarks) => {
                report.remarks.extend(remarks);
                cases.push(case);
            }
            Err(error) => report.failed.push((case.id, error)),
        }
    }
    if let (true, Some((id, error))) = (cases.is_empty(), report.failed.first()) {
        let reason = format!("no case could be imported; case `{id}`: {error}");
        return Err(occupied(&reason));
    }
    report.remarks.sort();
    report.failed.sort_by(|a, b| a.0.cmp(&b.0));
    let count = |subset| cases.iter().filter(|case| case.subset == subset).count();
    (report.labelled, report.unlabelled, report.test) = (
        count(Subset::Labelled),
        count(Subset::Unlabelled),
        count(Subset::Test),
    );
    let description = DatasetDescription {
        description: Some(survey.description).filter(|text| !text.is_empty()),
        licence: survey.licence,
        file_ending: ending.to_owned(),
        training: Some(report.labelled),
        labels: rule
            .labels()
            .into_iter()
            .map(|(n, v)| (n, vec![v]))
            .collect(),
        ..DatasetDescription::new(options.name.as_deref().unwrap_or(&survey.name), [])
    };
    write_description(&description, &root, options.version_1, &cases)?;
    let attributes: Vec<CaseAttributes> = cases.iter().map(|case| work.attributes(case)).collect();
    CaseAttributes::write_list(&root.join("cases.json"), &attributes)?;
    report.split = Fold::declared(&cases);
    if let Some(fold) = &report.split {
        split::write_splits(&root.join("splits_final.json"), std::slice::from_ref(fold))?;
    }
    new.finish().map_err(Error::io("creating", out))?;
    Ok(report)
}

fn write_description(
    description: &DatasetDescription,
    root: &Path,
    version_1: bool,
    cases: &[Case],
) -> Result<()> {
    let file = root.join("dataset.json");
    if !version_1 {
        return description.write(&file, DescriptionVersion::V2);
    }
    let ids = |subset| -> Vec<&str> {
        let chosen = cases.iter().filter(|case| case.subset == subset);
        chosen.map(|case| case.id.as_str()).collect()
    };
    description.write_v1(&file, &ids(Subset::Labelled), &ids(Subset::Test))
}

/// The rule for labels: the survey's own, or the one that `foreground` asks for.
fn rule(survey: &Survey, options: &ImportOptions) -> Result<LabelRule> {
    if options.foreground.is_empty() {
        if let LabelRule::Keep(_) = &survey.rule {
            let file = survey.folder.join("dataset.json");
            let plain = DatasetDescription::read(&file)?.plain_labels();
            plain.map_err(|reason| Error::Json { path: file, reason })?;
        }
        return Ok(survey.rule.clone());
    }
    let named: BTreeMap<String, Vec<u8>> = match &survey.rule {
        LabelRule::Keep(_) => DatasetDescription::read(&survey.folder.join("dataset.json"))?.labels,
        LabelRule::Merge { declared, .. } => declared
            .iter()
            .map(|(n, &v)| (n.clone(), vec![v]))
            .collect(),
        LabelRule::AnyForeground => BTreeMap::new(),
    };
    let mut foreground = BTreeSet::new();
    for wish in &options.foreground {
        match (named.get(wish), wish.parse::<u8>()) {
            (Some(values), _) => foreground.extend(values.iter().copied()),
            (None, Ok(value)) => {
                foreground.insert(value);
            }
            (None, Err(_)) => {
                let names: Vec<&str> = named.keys().map(String::as_str).collect();
                let reason = format!("`{wish}` is no label; there are {}", names.join(", "));
                return Err(Error::setting("foreground", reason));
            }
        }
    }
    foreground.remove(&0);
    let declared = named
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |v| (format!("{name} {v}"), v)))
        .collect();
    Ok(LabelRule::Merge {
        foreground,
        declared,
    })
}

/// `.nii` when all files have it, else `.nii.gz`.
fn common_ending(cases: &[Case]) -> &'static str {
    let gzipped = |path: &PathBuf| place::ending(path) == ".nii.gz";
    let any = cases
        .iter()
        .any(|case| gzipped(&case.image) || case.label.as_ref().is_some_and(gzipped));
    if any { ".nii.gz" } else { ".nii" }
}

/// The folders of images and of labels of a subset.
fn folders(subset: Subset) -> (&'static str, Option<&'static str>) {
    match subset {
        Subset::Labelled => ("imagesTr", Some("labelsTr")),
        Subset::Unlabelled => ("imagesUn", None),
        Subset::Test => ("imagesTs", Some("labelsTs")),
    }
}

fn uses(case: &Case, folder: &str) -> bool {
    let (images, labels) = folders(case.subset);
    images == folder || (case.label.is_some() && labels == Some(folder))
}

/// What all cases share.
struct Work<'a> {
    root: &'a Path,
    ending: &'static str,
    rule: &'a LabelRule,
    placement: Placement,
}

impl Work<'_> {
    fn image_path(&self, case: &Case) -> PathBuf {
        let name = format!("{}_0000{}", case.id, self.ending);
        self.root.join(folders(case.subset).0).join(name)
    }

    /// Relative to the root.
    fn label_path(&self, case: &Case) -> Option<PathBuf> {
        case.label.as_ref()?;
        let name = format!("{}{}", case.id, self.ending);
        Some(Path::new(folders(case.subset).1?).join(name))
    }

    fn case(&self, case: &Case) -> Result<Vec<Remark>> {
        let mut remarks = Vec::new();
        let image = self.image_path(case);
        if let Some(reason) = place::image(&case.image, &image, self.placement)? {
            remarks.push(Remark::new(RemarkKind::Rewritten, &case.image, reason));
        }
        let (Some(source), Some(target)) = (&case.label, self.label_path(case)) else {
            return Ok(remarks);
        };
        let label = place::label(source, &self.root.join(target), self.rule, self.placement);
        let label = label.inspect_err(|_| {
            // A case is there with its label or not at all.
            let _ = std::fs::remove_file(&image);
        })?;
        if let Some(reason) = label.merged {
            remarks.push(Remark::new(RemarkKind::Merged, source, reason));
        }
        if let Some(reason) = label.rewritten {
            remarks.push(Remark::new(RemarkKind::Rewritten, source, reason));
        }
        Ok(remarks)
    }

    fn attributes(&self, case: &Case) -> CaseAttributes {
        CaseAttributes {
            id: case.id.clone(),
            patient: case.patient.clone(),
            phase: case.phase.clone(),
            vendor: case.vendor.clone(),
            labelled: Some(case.label.is_some()),
            label: self.label_path(case),
            split: case.split.clone(),
            source: case.source.clone(),
        }
    }
}
