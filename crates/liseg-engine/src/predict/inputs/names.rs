//! What the names of image files say.

use std::path::{Path, PathBuf};

/// Endings of image files, the longer one first.
const ENDINGS: [&str; 6] = [".nii.gz", ".nii", ".hdr.gz", ".hdr", ".img.gz", ".img"];

/// The file name without the ending of a NIfTI file; `None` for other files, for hidden ones and for
/// names that are no text.
pub(crate) fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    // ASCII lower case has as many bytes.
    let ending = ENDINGS.into_iter().find(|e| lower.ends_with(e))?;
    let stem = name.get(..name.len() - ending.len())?;
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

/// The name of an image's mask: its own without ending and nnU-Net's channel suffix `_0000`.
pub(super) fn mask_name(image: &Path) -> PathBuf {
    let name = stem(image)
        .or_else(|| Some(image.file_stem()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "mask".to_owned());
    let short = name.strip_suffix("_0000").unwrap_or(&name);
    PathBuf::from(short)
}

/// Words that name masks, alone or as the first or last part of a name.
const MASK_WORDS: [&str; 8] = [
    "mask",
    "masks",
    "label",
    "labels",
    "seg",
    "segmentation",
    "pred",
    "prediction",
];

/// Whether a file is called as nnU-Net, LiQA and others call masks: `mask_GED4`, `liver_seg`, `T1_pred`.
pub(super) fn looks_like_mask(stem: &str) -> bool {
    let lower = stem.to_ascii_lowercase();
    MASK_WORDS.iter().any(|word| {
        lower == *word
            || lower
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with(['_', '-']))
            || lower
                .strip_suffix(word)
                .is_some_and(|rest| rest.ends_with(['_', '-', '.']))
    })
}

/// Whether a folder is called as those of masks are: `labelsTr`, `masks`, `segmentations`.
pub(super) fn looks_like_masks(folder: &str) -> bool {
    let lower = folder.to_ascii_lowercase();
    lower.starts_with("labels")
        || ["mask", "label", "seg", "segmentation", "pred", "prediction"]
            .iter()
            .any(|word| lower == *word || lower.strip_suffix('s') == Some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_names_without_the_ending() {
        for (name, expected) in [
            ("case_01_0000.nii.gz", Some("case_01_0000")),
            ("case.v1.2.nii", Some("case.v1.2")),
            ("GED4.NII.GZ", Some("GED4")),
            ("pair.img.gz", Some("pair")),
            ("notes.txt", None),
            (".nii.gz", None),
        ] {
            assert_eq!(stem(&Path::new("a").join(name)).as_deref(), expected);
        }
        assert_eq!(mask_name(Path::new("in/x_0000.nii")), Path::new("x"));
        assert_eq!(mask_name(Path::new("in/scan")), Path::new("scan"));
    }

    #[test]
    fn masks_are_told_by_the_names_that_others_give_them() {
        for mask in [
            "mask_GED4",
            "labels",
            "scan_seg",
            "T1_pred",
            "a.label",
            "Mask",
        ] {
            assert!(looks_like_mask(mask), "{mask}");
        }
        for image in [
            "GED4",
            "unmasked",
            "segment_3",
            "labelled",
            "x_entropy",
            "predator",
        ] {
            assert!(!looks_like_mask(image), "{image}");
        }
        for masks in ["labelsTr", "Masks", "segmentations", "preds"] {
            assert!(looks_like_masks(masks), "{masks}");
        }
        for images in ["imagesTs", "patient_1", "seg_study"] {
            assert!(!looks_like_masks(images), "{images}");
        }
    }
}
