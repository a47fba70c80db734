//! nnU-Net's raw layout with whatever this crate does not use as it is: several channels, other
//! labels.

use super::{LabelRule, Layout, Remark, RemarkKind, Survey, relative};
use crate::{
    Case, CaseAttributes, DatasetDescription, RefusedCase, Result, Subset, listing, pairs,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lists the images of a raw data set, version 1 or 2; every channel becomes a case of its own.
pub(super) fn survey(folder: &Path) -> Result<Survey> {
    let description = DatasetDescription::of_folder(folder)?;
    let labels = description
        .labels
        .iter()
        .filter_map(|(name, values)| match values[..] {
            [value] => Some((name.clone(), value)),
            _ => None,
        })
        .collect();
    let mut survey = Survey {
        layout: Layout::Nnunet,
        folder: folder.to_owned(),
        name: description.name.clone(),
        description: description.description.clone().unwrap_or_default(),
        licence: description.licence.clone(),
        rule: LabelRule::Keep(labels),
        cases: Vec::new(),
        refused: Vec::new(),
        remarks: Vec::new(),
    };
    let attributes = attributes(folder)?;
    let known = |id: &str| attributes.get(id).cloned().unwrap_or_default();
    if description.listed.is_empty() {
        for (images, labels, subset) in [
            ("imagesTr", Some("labelsTr"), Subset::Labelled),
            ("imagesUn", None, Subset::Unlabelled),
            ("imagesTs", Some("labelsTs"), Subset::Test),
        ] {
            let list = &description.training_list;
            let found = match subset == Subset::Labelled && !list.is_empty() {
                true => pairs::of_list(folder, list, images)?,
                false => pairs::find(folder, images, labels, &description.file_ending)?,
            };
            for pair in found.pairs {
                let channels = pair.channels.into_iter();
                let channels = channels
                    .map(|(suffix, path)| (number_of(&suffix), path))
                    .collect();
                let case = (pair.id.as_str(), channels, pair.label);
                take(&mut survey, &description, case, subset, &known(&pair.id));
            }
            survey.refused.extend(found.refused);
            let notes = found.notes.into_iter();
            survey.remarks.extend(
                notes.map(|(_, path, message)| Remark::new(RemarkKind::Noted, &path, message)),
            );
        }
    }
    for listed in &description.listed {
        let images = channels_of(&listed.images, folder);
        let label = listed.label.as_ref().map(|path| folder.join(path));
        let case = (listed.id.as_str(), images, label);
        take(
            &mut survey,
            &description,
            case,
            Subset::Labelled,
            &known(&listed.id),
        );
    }
    Ok(survey)
}

fn attributes(folder: &Path) -> Result<BTreeMap<String, CaseAttributes>> {
    let path = folder.join("cases.json");
    if !listing::exists(&path)? {
        return Ok(BTreeMap::new());
    }
    let list = CaseAttributes::read_list(&path)?;
    Ok(list
        .into_iter()
        .map(|case| (case.id.clone(), case))
        .collect())
}

/// A channel's number, where the name or a list says it, and its image.
type Channel = (Option<usize>, PathBuf);

/// The channel that a suffix such as `_0002` says.
fn number_of(suffix: &str) -> Option<usize> {
    suffix.strip_prefix('_')?.parse().ok()
}

/// Listed images with their channels: as their suffixes say where all have different ones, else in the order of the list.
fn channels_of(listed: &[PathBuf], folder: &Path) -> Vec<Channel> {
    let suffix = |path: &PathBuf| {
        let name = path.file_name()?.to_string_lossy();
        number_of(listing::split_channel(listing::split_ending(&name)?.0).1)
    };
    let numbers: Option<Vec<usize>> = listed.iter().map(suffix).collect();
    let different = |numbers: &Vec<usize>| {
        let set: std::collections::BTreeSet<&usize> = numbers.iter().collect();
        set.len() == numbers.len()
    };
    let numbers = numbers.filter(different);
    let numbers = numbers.unwrap_or_else(|| (0..listed.len()).collect());
    let paths = listed.iter().map(|path| folder.join(path));
    numbers.into_iter().map(Some).zip(paths).collect()
}

/// Adds a case: as it is in a data set of one channel, else once per channel, with the channel's name as phase. A channel
/// that the description does not have is refused.
fn take(
    survey: &mut Survey,
    description: &DatasetDescription,
    (id, images, label): (&str, Vec<Channel>, Option<PathBuf>),
    subset: Subset,
    known: &CaseAttributes,
) {
    let subset = match subset {
        Subset::Labelled if label.is_none() => Subset::Unlabelled,
        other => other,
    };
    let several = images.len() > 1 || description.channels.len() > 1;
    for (number, image) in images {
        let number = number.filter(|_| several);
        let channel = number.and_then(|number| description.channels.get(number).cloned());
        let (new_id, phase) = if let Some(number) = number {
            let Some(channel) = channel.or_else(|| {
                let none = description.channels.is_empty();
                none.then(|| format!("channel{number}"))
            }) else {
                let declared = description.channels.join(", ");
                survey.refused.push(RefusedCase {
                    id: format!("{id}_{number:04}"),
                    files: vec![image],
                    reason: format!(
                        "dataset.json has no channel {number}; it has {declared}, from 0 on"
                    ),
                });
                continue;
            };
            let new_id = format!("{id}_{}", file_name(&channel));
            let message = format!("channel {number} of `{id}` becomes the case `{new_id}`");
            survey
                .remarks
                .push(Remark::new(RemarkKind::Renamed, &image, message));
            (new_id, Some(channel))
        } else {
            (id.to_owned(), known.phase.clone())
        };
        let source = format!("{}/{}", description.name, relative(&survey.folder, &image));
        survey.cases.push(Case {
            label: label.clone(),
            patient: known
                .patient
                .clone()
                .or_else(|| several.then(|| id.to_owned())),
            phase,
            vendor: known.vendor.clone(),
            split: known.split.clone().or_else(|| {
                let split = if subset == Subset::Test {
                    "test"
                } else {
                    "train"
                };
                Some(split.to_owned())
            }),
            source: known.source.clone().or(Some(source)),
            ..Case::new(new_id, image, subset)
        });
    }
}

/// A channel's name as part of a file name.
fn file_name(channel: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || c == '-' {
            c
        } else {
            '-'
        }
    };
    channel.chars().map(plain).collect()
}
