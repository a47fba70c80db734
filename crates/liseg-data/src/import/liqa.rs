//! The layout of the LiQA challenge (CARE-Liver 2024 to 2026).

use super::{
    LabelRule, Layout, Remark, RemarkKind, Survey, entries, image_stem, liqa_info, relative,
};
use crate::{Case, Result, Subset};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How deep vendor folders may lie below the folder that is given.
const DEPTH: usize = 4;

/// The vendor folders in or below a folder, with the vendor's name.
pub(super) fn vendor_folders(folder: &Path) -> Vec<(String, PathBuf)> {
    fn descend(folder: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) {
        for (name, path) in entries(folder) {
            if !path.is_dir() {
                continue;
            }
            match vendor(&name) {
                Some(vendor) => found.push((vendor.to_owned(), path)),
                None if depth > 1 => descend(&path, depth - 1, found),
                None => {}
            }
        }
    }
    let own_name = folder.file_name().map(|name| name.to_string_lossy());
    if let Some(vendor) = own_name.as_deref().and_then(vendor) {
        return vec![(vendor.to_owned(), folder.to_owned())];
    }
    let mut found = Vec::new();
    descend(folder, DEPTH, &mut found);
    found
}

/// The vendor that a folder's name tells: `Vendor_A`, `Vendor-A`, `Vendor A` or `VendorA`.
fn vendor(name: &str) -> Option<&str> {
    let (word, rest) = (name.get(..6)?, name.get(6..)?);
    let rest = rest.strip_prefix(['_', '-', ' ']).unwrap_or(rest);
    (word.eq_ignore_ascii_case("vendor") && !rest.is_empty()).then_some(rest)
}

/// The phase that a file's name tells, and whether it is the usual name of it.
///
/// `GED1`–`GED4`, `T1` or `T1WI`, `T2` or `T2WI`, `DWI` or `DWI_<b>`; in any case of letters.
pub(super) fn phase(stem: &str) -> Option<(&'static str, bool)> {
    let upper = stem.to_ascii_uppercase();
    let (phase, usual) = match upper.as_str() {
        "GED1" => ("GED1", "GED1"),
        "GED2" => ("GED2", "GED2"),
        "GED3" => ("GED3", "GED3"),
        "GED4" => ("GED4", "GED4"),
        "T1" | "T1WI" => ("T1WI", "T1"),
        "T2" | "T2WI" => ("T2WI", "T2"),
        "DWI" => ("DWI", "DWI_800"),
        other if other.starts_with("DWI_") || other.starts_with("DWI-") => ("DWI", "DWI_800"),
        _ => return None,
    };
    Some((phase, usual == stem))
}

/// The centre in a case folder's name, `<four digits>-<centre>` with or without `-S<stage>`.
fn centre(case: &str) -> Option<&str> {
    let (number, rest) = case.split_once('-')?;
    let (centre, stage) = rest.split_once('-').unwrap_or((rest, "S1"));
    let stage = stage.strip_prefix('S')?;
    let usual = number.len() == 4
        && number.bytes().all(|b| b.is_ascii_digit())
        && ["1", "2", "3", "4"].contains(&stage);
    (usual && !centre.is_empty()).then_some(centre)
}

/// What the cases below a folder are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Training,
    Validation,
    Test,
}

impl Role {
    /// By the names of the folders from `root` on; else by an `info.csv`, which only collections
    /// without masks have.
    fn of(root: &Path, folder: &Path) -> Self {
        let parts = relative(root.parent().unwrap_or(root), folder).to_ascii_lowercase();
        let has = |words: &[&str]| {
            parts
                .split(['/', '_', '-', ' ', '.'])
                .any(|part| words.contains(&part))
        };
        let listed = folder
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(root))
            .any(|ancestor| ancestor.join("info.csv").is_file());
        if has(&["train", "training"]) {
            Self::Training
        } else if has(&["val", "valid", "validation"]) {
            Self::Validation
        } else if has(&["test", "testing"]) || listed {
            Self::Test
        } else {
            Self::Training
        }
    }

    fn split(self) -> &'static str {
        match self {
            Self::Training => "train",
            Self::Validation => "val",
            Self::Test => "test",
        }
    }
}

/// Lists the images of a folder in the LiQA layout.
pub(super) fn survey(folder: &Path) -> Result<Survey> {
    let mut survey = Survey {
        layout: Layout::Liqa,
        folder: folder.to_owned(),
        name: "LiQA".to_owned(),
        description: "LiQA (CARE-Liver): every phase a case of its own, on its own grid; masks of \
                      the liver for some GED4 scans"
            .to_owned(),
        licence: None,
        rule: LabelRule::AnyForeground,
        cases: Vec::new(),
        remarks: Vec::new(),
    };
    for (vendor, place) in vendor_folders(folder) {
        let above = place.parent().unwrap_or(folder);
        let role = Role::of(folder, above);
        for (name, path) in entries(&place) {
            if path.is_dir() {
                take_case(&mut survey, role, &vendor, (&name, &path), above);
            } else {
                let message = "a file where case folders are expected was left out";
                survey
                    .remarks
                    .push(Remark::new(RemarkKind::Skipped, &path, message));
            }
        }
    }
    drop_repeated(&mut survey);
    liqa_info::compare_tables(&mut survey)?;
    liqa_info::take_split(&mut survey)?;
    survey.cases.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(survey)
}

/// Adds the phases of one case folder.
fn take_case(
    survey: &mut Survey,
    role: Role,
    vendor: &str,
    (case, folder): (&str, &Path),
    above: &Path,
) {
    match centre(case) {
        Some(centre) if centre == vendor => {}
        Some(centre) => {
            let message =
                format!("a case of centre {centre} lies in the folder of vendor {vendor}");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Noted, folder, message));
        }
        None => {
            let message = "the name is not of the form 0123-A-S1; it is taken as it is";
            survey
                .remarks
                .push(Remark::new(RemarkKind::Noted, folder, message));
        }
    }
    let mut masks = masks_in(folder);
    for place in apart(above, case) {
        for (phase, path) in masks_in(&place) {
            masks.entry(phase).or_insert(path);
        }
    }
    // The usual name of a phase goes before others.
    let mut images: Vec<(&'static str, bool, String, PathBuf)> = Vec::new();
    for (name, path) in entries(folder) {
        let Some(stem) = image_stem(&name) else {
            let message = "it is no image and was left out";
            survey
                .remarks
                .push(Remark::new(RemarkKind::Skipped, &path, message));
            continue;
        };
        match phase(stem) {
            Some((phase, usual)) => images.push((phase, !usual, name, path)),
            None if mask_phase(stem).is_some() => {}
            None => {
                let message = "the name tells no known phase (GED1–GED4, T1, T2, DWI_800)";
                survey
                    .remarks
                    .push(Remark::new(RemarkKind::Skipped, &path, message));
            }
        }
    }
    images.sort();
    let mut taken = BTreeSet::new();
    for (phase, unusual, name, path) in images {
        if !taken.insert(phase) {
            let message = format!("the case has another image of {phase}");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Skipped, &path, message));
            continue;
        }
        if unusual {
            let message = format!("{name} is taken as {phase}");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Renamed, &path, message));
        }
        let label = masks.remove(phase);
        let subset = match (role, &label) {
            (Role::Training, Some(_)) => Subset::Labelled,
            (Role::Training, None) => Subset::Unlabelled,
            _ => Subset::Test,
        };
        let source = format!("LiQA/{}", relative(&survey.folder, &path));
        survey.cases.push(Case {
            label,
            patient: Some(case.to_owned()),
            phase: Some(phase.to_owned()),
            vendor: Some(vendor.to_owned()),
            split: Some(role.split().to_owned()),
            source: Some(source),
            ..Case::new(format!("{case}_{phase}"), path, subset)
        });
    }
    if taken.is_empty() {
        let message = "the folder has no image of a known phase";
        survey
            .remarks
            .push(Remark::new(RemarkKind::Skipped, folder, message));
    }
    for (phase, path) in masks {
        let message = format!("a mask of {phase} without an image of it was left out");
        survey
            .remarks
            .push(Remark::new(RemarkKind::Skipped, &path, message));
    }
}

/// Where masks of a case may lie apart from its images: `<folder>_masks/<case>` beside the folder of
/// the vendors, with or without vendor folders of its own.
fn apart(above: &Path, case: &str) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (above.parent(), above.file_name()) else {
        return Vec::new();
    };
    let masks = parent.join(format!("{}_masks", name.to_string_lossy()));
    let mut places = vec![masks.join(case)];
    places.extend(
        entries(&masks)
            .into_iter()
            .filter(|(name, _)| vendor(name).is_some())
            .map(|(_, vendor)| vendor.join(case)),
    );
    places
}

/// The phase of `mask_<phase>`.
fn mask_phase(stem: &str) -> Option<&'static str> {
    let word = stem.get(..5)?;
    word.eq_ignore_ascii_case("mask_")
        .then(|| phase(&stem[5..]))
        .flatten()
        .map(|(phase, _)| phase)
}

/// The masks in a folder by phase.
fn masks_in(folder: &Path) -> BTreeMap<&'static str, PathBuf> {
    entries(folder)
        .into_iter()
        .filter_map(|(name, path)| Some((mask_phase(image_stem(&name)?)?, path)))
        .collect()
}

/// Two folders may hold one case, as copies of a collection do: the first one is taken.
fn drop_repeated(survey: &mut Survey) {
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (cases, remarks) = (&mut survey.cases, &mut survey.remarks);
    cases.retain(|case| match seen.get(&case.id) {
        None => {
            seen.insert(case.id.clone(), case.image.clone());
            true
        }
        Some(first) => {
            let message = format!(
                "case `{}` was found before, as {}",
                case.id,
                first.display()
            );
            remarks.push(Remark::new(RemarkKind::Skipped, &case.image, message));
            false
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_phases_and_cases_are_told_by_their_names() {
        for name in ["Vendor_B1", "Vendor-B1", "VendorB1", "vendor B1"] {
            assert_eq!(vendor(name), Some("B1"), "{name}");
        }
        assert_eq!(
            (vendor("Vendor"), vendor("Data"), vendor("Véndor")),
            (None, None, None)
        );
        assert_eq!(phase("T2"), Some(("T2WI", true)));
        assert_eq!(phase("T2WI"), Some(("T2WI", false)));
        assert_eq!(phase("DWI_800"), Some(("DWI", true)));
        assert_eq!(phase("DWI_50"), Some(("DWI", false)));
        assert_eq!((phase("GED5"), phase("mask_GED4")), (None, None));
        assert_eq!(mask_phase("mask_GED4"), Some("GED4"));
        assert_eq!(mask_phase("maskGED4"), None);
        assert_eq!(centre("1053-B2-S3"), Some("B2"));
        assert_eq!(centre("1053-C"), Some("C"));
        assert_eq!(
            (centre("153-A-S1"), centre("1053-A-S5"), centre("1053")),
            (None, None, None)
        );
    }

    #[test]
    fn roles_are_told_by_whole_words() {
        let root = Path::new("/data/evaluation");
        let role = |below: &str| Role::of(root, &root.join(below));
        assert_eq!(role("Liver"), Role::Training);
        assert_eq!(role("LiQA_training_data"), Role::Training);
        assert_eq!(role("LiQA_val/Data"), Role::Validation);
        assert_eq!(role("LiQA-test"), Role::Test);
    }
}
