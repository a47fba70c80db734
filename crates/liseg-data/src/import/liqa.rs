//! The layout of the LiQA challenge (CARE-Liver 2024 to 2026).

use super::{
    LabelRule, Layout, Remark, RemarkKind, Survey, entries, image_stem, liqa_info, relative,
};
use crate::{Case, Result, Subset, listing};
use std::collections::BTreeMap;
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

/// Links to nothing where folders of vendors may be: what they should lead to would be missed.
fn lost(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (name, path) in entries(folder) {
        if listing::dangling(&path).is_some() && image_stem(&name).is_none() {
            found.push(path);
        } else if depth > 1 && path.is_dir() && vendor(&name).is_none() {
            found.extend(lost(&path, depth - 1));
        }
    }
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
        refused: Vec::new(),
        remarks: Vec::new(),
    };
    for path in lost(folder, DEPTH) {
        refuse_link(&mut survey, &path);
    }
    for (vendor, place) in vendor_folders(folder) {
        let above = place.parent().unwrap_or(folder);
        let role = Role::of(folder, above);
        for (name, path) in entries(&place) {
            if path.file_name().is_some_and(|name| name.to_str().is_none()) {
                let reason = "the name is no text (UTF-8): rename it";
                survey.refuse(name, vec![path], reason);
            } else if path.is_dir() {
                take_case(&mut survey, role, &vendor, (&name, &path), above);
            } else if listing::dangling(&path).is_some() {
                refuse_link(&mut survey, &path);
            } else {
                let message = "a file where case folders are expected was left out";
                survey
                    .remarks
                    .push(Remark::new(RemarkKind::Skipped, &path, message));
            }
        }
    }
    liqa_info::compare_tables(&mut survey)?;
    liqa_info::take_split(&mut survey)?;
    Ok(survey)
}

fn refuse_link(survey: &mut Survey, path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let target = listing::dangling(path).unwrap_or_default();
    let reason = format!("it is a link to {target}, which does not exist");
    survey.refuse(name, vec![path.to_owned()], reason);
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
        for (phase, paths) in masks_in(&place) {
            masks.entry(phase).or_default().extend(paths);
        }
    }
    // By phase, those with the usual name first.
    let mut images: BTreeMap<&'static str, Vec<(bool, String, PathBuf)>> = BTreeMap::new();
    for (name, path) in entries(folder) {
        let Some(stem) = image_stem(&name) else {
            let message = "it is no image and was left out";
            survey
                .remarks
                .push(Remark::new(RemarkKind::Skipped, &path, message));
            continue;
        };
        match phase(stem) {
            Some((phase, usual)) => {
                images.entry(phase).or_default().push((!usual, name, path));
            }
            None if mask_phase(stem).is_some() => {}
            None => {
                let message = "the name tells no known phase (GED1–GED4, T1, T2, DWI_800)";
                survey
                    .remarks
                    .push(Remark::new(RemarkKind::Skipped, &path, message));
            }
        }
    }
    if images.is_empty() {
        let message = "the folder has no image of a known phase";
        survey
            .remarks
            .push(Remark::new(RemarkKind::Skipped, folder, message));
    }
    for (phase, mut found) in images {
        found.sort();
        let id = format!("{case}_{phase}");
        let labels = masks.remove(phase).unwrap_or_default();
        let rank = found[0].0;
        let alike = found.iter().filter(|(unusual, ..)| *unusual == rank);
        let alike: Vec<PathBuf> = alike.map(|(_, _, path)| path.clone()).collect();
        if alike.len() > 1 {
            survey.refuse(id, alike, "several files claim to be its image");
            continue;
        }
        if labels.len() > 1 {
            survey.refuse(id, labels, "several files claim to be its mask");
            continue;
        }
        let mut found = found.into_iter();
        let Some((unusual, name, path)) = found.next() else {
            continue;
        };
        for (_, _, other) in found {
            let message = format!("the case has another image of {phase}");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Skipped, &other, message));
        }
        if unusual {
            let message = format!("{name} is taken as {phase}");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Renamed, &path, message));
        }
        let label = labels.into_iter().next();
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
            ..Case::new(id, path, subset)
        });
    }
    let masks = masks.into_iter();
    for (phase, path) in masks.flat_map(|(phase, files)| files.into_iter().map(move |f| (phase, f)))
    {
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

/// The masks in a folder by phase; several names may mean one phase.
fn masks_in(folder: &Path) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut masks: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for (name, path) in entries(folder) {
        if let Some(phase) = image_stem(&name).and_then(mask_phase) {
            masks.entry(phase).or_default().push(path);
        }
    }
    masks
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
