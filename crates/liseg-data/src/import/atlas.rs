//! The layout of ATLAS 2023: contrast-enhanced MRI of livers with tumours.

use super::{LabelRule, Layout, Remark, RemarkKind, Survey, entries, image_stem, relative};
use crate::{Case, Error, RefusedCase, Result, Subset, json, listing};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How deep the data may lie below the folder that is given.
const DEPTH: usize = 2;

/// The folder with `imagesTr/im<n>` files, in or below a folder.
pub(super) fn root(folder: &Path) -> Option<PathBuf> {
    fn descend(folder: &Path, depth: usize) -> Option<PathBuf> {
        if !numbered(&folder.join("imagesTr"), "im").is_empty() {
            return Some(folder.to_owned());
        }
        entries(folder)
            .into_iter()
            .filter(|(_, path)| depth > 0 && path.is_dir())
            .find_map(|(_, path)| descend(&path, depth - 1))
    }
    descend(folder, DEPTH)
}

/// The files `<word><number>.nii.gz` of a folder by number; several names may mean one number.
fn numbered(folder: &Path, word: &str) -> BTreeMap<u32, Vec<PathBuf>> {
    let mut found: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    for (name, path) in entries(folder) {
        if let Some(number) = number(&name, word) {
            found.entry(number).or_default().push(path);
        }
    }
    found
}

fn number(name: &str, word: &str) -> Option<u32> {
    image_stem(name)?.strip_prefix(word)?.parse().ok()
}

/// Says which images of a folder have no number, and are left out.
fn strays(folder: &Path, word: &str) -> Vec<Remark> {
    let images = entries(folder)
        .into_iter()
        .filter(|(name, _)| image_stem(name).is_some() && number(name, word).is_none());
    let message = format!("the name is not {word}<n>; it was left out");
    images
        .map(|(_, path)| Remark::new(RemarkKind::Skipped, &path, message.clone()))
        .collect()
}

/// Lists the images of a folder in the ATLAS layout.
pub(super) fn survey(folder: &Path) -> Result<Survey> {
    let root = root(folder).ok_or_else(|| Error::Dataset {
        folder: folder.to_owned(),
        reason: "there is no imagesTr/im0.nii.gz in it or below".into(),
    })?;
    let images = numbered(&root.join("imagesTr"), "im");
    let mut labels = numbered(&root.join("labelsTr"), "lb");
    let mut remarks = vec![
        Remark::new(
            RemarkKind::Merged,
            &root.join("labelsTr"),
            "liver (1) and tumour (2) become liver (1): the whole organ",
        ),
        Remark::new(
            RemarkKind::Renamed,
            &root.join("imagesTr"),
            "im<n> and lb<n> become atlas_<n>, with three digits",
        ),
    ];
    remarks.extend(strays(&root.join("imagesTr"), "im"));
    remarks.extend(strays(&root.join("labelsTr"), "lb"));
    let patients = patients(&root, &mut remarks)?;
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for (number, images) in images {
        let id = format!("atlas_{number:03}");
        let found = labels.remove(&number).unwrap_or_default();
        let ([image], [] | [_]) = (&images[..], &found[..]) else {
            refused.push(RefusedCase {
                id,
                files: images.into_iter().chain(found).collect(),
                reason: "several files claim to be its image or its label".to_owned(),
            });
            continue;
        };
        let (image, label) = (image.clone(), found.into_iter().next());
        let subset = match label {
            Some(_) => Subset::Labelled,
            None => {
                let message = format!("there is no lb{number}: the case is unlabelled");
                remarks.push(Remark::new(RemarkKind::Noted, &image, message));
                Subset::Unlabelled
            }
        };
        let about = patients.get(&number.to_string());
        let text = |key: &str| {
            let value = about?.get(key)?;
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let text = text.trim().to_owned();
            (!text.is_empty() && text != "null").then_some(text)
        };
        let phase = text("contrast_phase").map(|found| {
            let (phase, usual) = phase(&found);
            if !usual {
                let message = format!("contrast_phase `{found}` is taken as {phase}");
                remarks.push(Remark::new(RemarkKind::Renamed, &image, message));
            }
            phase
        });
        if !patients.is_empty() && phase.is_none() {
            let message = format!("patient_info_train.json has no contrast_phase for {number}");
            remarks.push(Remark::new(RemarkKind::Noted, &image, message));
        }
        cases.push(Case {
            label,
            patient: Some(id.clone()),
            phase,
            vendor: text("machine"),
            split: Some("train".to_owned()),
            source: Some(format!("ATLAS 2023/{}", relative(&root, &image))),
            ..Case::new(id, image, subset)
        });
    }
    let labels = labels.into_iter();
    for (number, label) in labels.flat_map(|(n, files)| files.into_iter().map(move |f| (n, f))) {
        let message = format!("a label without im{number} was left out");
        remarks.push(Remark::new(RemarkKind::Skipped, &label, message));
    }
    let declared = [("background", 0), ("liver", 1), ("tumour", 2)];
    Ok(Survey {
        layout: Layout::Atlas,
        folder: root,
        name: "ATLAS".to_owned(),
        description: "ATLAS 2023: contrast-enhanced T1-weighted MRI; liver and tumour merged"
            .to_owned(),
        licence: Some("CC BY-NC-SA 4.0".to_owned()),
        rule: LabelRule::Merge {
            foreground: BTreeSet::from([1, 2]),
            declared: declared
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        },
        cases,
        refused,
        remarks,
    })
}

/// `patient_info_train.json`: number, then what is known about the patient.
fn patients(root: &Path, remarks: &mut Vec<Remark>) -> Result<Map<String, Value>> {
    let path = root.join("patient_info_train.json");
    if listing::exists(&path)? {
        return json::read(&path);
    }
    let message = "there is no such file: phases and scanners stay unknown";
    remarks.push(Remark::new(RemarkKind::Noted, &path, message));
    Ok(Map::new())
}

/// The phase that `contrast_phase` tells, and whether it is written so already.
fn phase(text: &str) -> (String, bool) {
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let phase = if has(&["art"]) {
        "arterial"
    } else if has(&["delay", "late", "equil", "tard"]) {
        "delayed"
    } else if has(&["port", "ven"]) {
        "portal"
    } else {
        lower.as_str()
    };
    (phase.to_owned(), phase == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_recognised_however_they_are_written() {
        assert_eq!(phase("arterial"), ("arterial".to_owned(), true));
        assert_eq!(phase("Late arterial"), ("arterial".to_owned(), false));
        assert_eq!(phase("Portal venous phase").0, "portal");
        assert_eq!(phase("DELAYED").0, "delayed");
        assert_eq!(phase("Native"), ("native".to_owned(), false));
    }
}
