//! Bringing one file to its place: as it is where nothing changes, anew where something does.

use super::LabelRule;
use crate::check::value_counts;
use crate::mask::{self, Mask};
use crate::{Error, Result};
use liseg_mri::nifti;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How files that do not change come to their new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// They are copied, byte for byte.
    #[default]
    Copy,
    /// Both names are one file; a copy where the two places are on different disks.
    Hardlink,
    /// The new name points to the old one, which must stay.
    Symlink,
}

impl std::str::FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "copy" => Ok(Self::Copy),
            "hardlink" => Ok(Self::Hardlink),
            "symlink" => Ok(Self::Symlink),
            _ => Err("expected copy, hardlink or symlink".to_owned()),
        }
    }
}

impl Placement {
    fn place(self, source: &Path, target: &Path) -> Result<()> {
        let failed = |e| Error::io("copying to", target)(e);
        match self {
            Self::Copy => std::fs::copy(source, target).map(drop).map_err(failed),
            Self::Hardlink => std::fs::hard_link(source, target)
                .or_else(|_| std::fs::copy(source, target).map(drop))
                .map_err(failed),
            Self::Symlink => {
                let whole = std::fs::canonicalize(source).map_err(Error::io("finding", source))?;
                symlink(&whole, target).map_err(failed)
            }
        }
    }
}

#[cfg(unix)]
fn symlink(source: &Path, target: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(source, target)
}

#[cfg(not(unix))]
fn symlink(source: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::copy(source, target).map(drop)
}

/// Places an image; says what was changed about it.
pub(super) fn image(source: &Path, target: &Path, how: Placement) -> Result<Option<String>> {
    let header = nifti::read_header(source)?;
    let axes = header.dims().len();
    let reason = if axes > 3 {
        format!("its {axes} axes became three: those behind the third had one voxel")
    } else if ending(source) != ending(target) {
        format!("it became a {} file", ending(target))
    } else {
        how.place(source, target)?;
        return Ok(None);
    };
    nifti::squeeze(source, target)?;
    Ok(Some(reason))
}

/// What became of a label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PlacedLabel {
    /// Values that became another one.
    pub(super) merged: Option<String>,
    /// What else was changed.
    pub(super) rewritten: Option<String>,
}

/// Places a label under a rule.
pub(super) fn label(
    source: &Path,
    target: &Path,
    rule: &LabelRule,
    how: Placement,
) -> Result<PlacedLabel> {
    let Mask { read, odd } = mask::read(source, *rule == LabelRule::AnyForeground)?;
    let counts = value_counts(read.volume.data().iter().copied());
    let mut map = [0u8; 256];
    let mut changed = Vec::from_iter(odd);
    for (&value, &count) in &counts {
        let Some(new) = rule.value(value) else {
            return Err(Error::LabelValue {
                path: source.to_owned(),
                value,
                count,
                declared: rule.labels().into_values().collect(),
            });
        };
        map[usize::from(value)] = new;
        if new != value {
            changed.push(format!("{count} voxels of {value} became {new}"));
        }
    }
    let merged = (!changed.is_empty()).then(|| changed.join(", "));
    let axes = read.header.dims().len();
    let rewritten = if axes > 3 {
        Some(format!("its {axes} axes became three"))
    } else {
        (ending(source) != ending(target)).then(|| format!("it became a {} file", ending(target)))
    };
    if merged.is_none() && rewritten.is_none() {
        how.place(source, target)?;
    } else {
        let like = (axes <= 3).then_some(&read.header);
        let labels = read.volume.map(|&v| map[usize::from(v)]);
        nifti::write_labels(target, &labels, like)?;
    }
    Ok(PlacedLabel { merged, rewritten })
}

/// The ending that a file's name means, however it is written.
pub(super) fn ending(path: &Path) -> &'static str {
    let name = path.file_name().map(|name| name.to_string_lossy());
    match name.is_some_and(|name| name.to_ascii_lowercase().ends_with(".gz")) {
        true => ".nii.gz",
        false => ".nii",
    }
}
