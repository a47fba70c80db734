//! Finding the images to predict: a file, a folder, a list, a tree of patients.

mod list;
mod names;
mod tree;

pub(crate) use names::stem;

use crate::{Error, Result};
use liseg_mri::nifti;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An image to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// The image.
    pub image: PathBuf,
    /// The mask's name without ending, relative to the output folder; may lie in sub-folders.
    pub name: PathBuf,
    /// Phase of the image, where known.
    pub phase: Option<String>,
    /// The mask that belongs to it, where known: it is never overwritten.
    pub label: Option<PathBuf>,
}

impl ImageFile {
    /// An image of unknown phase, whose mask is called after it without ending and nnU-Net's `_0000`.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        let image = image.into();
        Self {
            name: names::mask_name(&image),
            image,
            phase: None,
            label: None,
        }
    }
}

/// What there is to predict at a path.
#[derive(Debug, Default)]
pub struct FoundImages {
    /// The images, by name.
    pub images: Vec<ImageFile>,
    /// Images that cannot be predicted, with the reason. They count as failed.
    pub refused: Vec<(PathBuf, Error)>,
    /// What was passed over and why, a sentence each.
    pub notes: Vec<String>,
}

impl FoundImages {
    fn refuse(&mut self, path: &Path, reason: impl Into<String>) {
        let error = Error::Run {
            path: path.to_owned(),
            reason: reason.into(),
        };
        self.refused.push((path.to_owned(), error));
    }

    /// Of images whose masks would have one name none is taken: which of them is meant cannot be told.
    fn refuse_namesakes(&mut self) {
        let mut by_name: BTreeMap<PathBuf, Vec<ImageFile>> = BTreeMap::new();
        for file in std::mem::take(&mut self.images) {
            by_name.entry(file.name.clone()).or_default().push(file);
        }
        for (name, mut files) in by_name {
            if files.len() == 1 {
                self.images.append(&mut files);
                continue;
            }
            let all: Vec<_> = files
                .iter()
                .map(|f| f.image.display().to_string())
                .collect();
            let reason = format!(
                "{} would share the mask `{}`; rename or remove all but one",
                all.join(" and "),
                name.display()
            );
            for file in files {
                self.refuse(&file.image, &*reason);
            }
        }
    }
}

/// The images at a path.
///
/// - A NIfTI file, or either file of a pair of `.hdr` and `.img`: that image.
/// - A folder: every NIfTI file in it and below, as in LiQA's `Vendor/Patient/GED4.nii.gz`, the mask at
///   the same place below the output. Files in sub-folders are named after their phase. A `cases.json`
///   in the folder or beside it says phases, too. Passed over, with a note, are what looks like a mask
///   by its name or its folder's (`mask_GED4`, `liver_seg`, `labelsTr/`), images in other formats, and
///   `output`, the folder that masks are written to.
/// - A `cases.json`: the images it lists, `{"id", "image", "phase"}`; `image` is relative to the file and,
///   when absent, `<id>.nii.gz` or `<id>_0000.nii.gz` there, in `imagesTs` or in `images`. Cases without
///   `image` that have none of these are passed over, with a note.
///
/// An image that cannot be told from another one, a link that leads nowhere or a name that is no text is
/// refused by itself; see [`FoundImages::refused`].
///
/// # Errors
/// [`Error::Io`] when the path cannot be read; [`Error::Mri`] for a file that is no NIfTI image;
/// [`Error::Run`] for the folder of a whole data set, or when there is no image.
pub fn find_images(path: &Path, output: Option<&Path>) -> Result<FoundImages> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    let mut found = if !metadata.is_dir() {
        if list::is_list(path) {
            list::find(path)?
        } else {
            nifti::read_header(path)?;
            FoundImages {
                images: vec![ImageFile::new(path)],
                ..FoundImages::default()
            }
        }
    } else if path.join("dataset.json").is_file() {
        return Err(Error::Run {
            path: path.to_owned(),
            reason: "is a dataset; give its imagesTs (or imagesTr)".to_owned(),
        });
    } else {
        let mut found = tree::find(path, output)?;
        list::take_phases(path, &mut found.images)?;
        found
    };
    found.refuse_namesakes();
    Ok(found)
}
