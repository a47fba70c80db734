//! Finding the images to predict: a file, a folder, a list, a tree of patients.

use super::folder::stem;
use crate::{Error, Result};
use serde::Deserialize;
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
}

/// One image of a `cases.json` that is to be predicted.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    image: Option<PathBuf>,
    phase: Option<String>,
}

/// The images at a path.
///
/// - A NIfTI file: that image.
/// - A folder with NIfTI files: those directly inside, by name. A `cases.json` in it or beside it says
///   their phases.
/// - A `cases.json`: the images it lists, `{"id", "image", "phase"}`; `image` is relative to the file and,
///   when absent, `<id>.nii.gz` or `<id>_0000.nii.gz` there, in `imagesTs` or in `images`.
/// - A folder of folders, as LiQA's `Vendor/Patient/GED4.nii.gz`: every NIfTI file below, the mask at
///   the same place below the output; files are named after their phase.
///
/// # Errors
/// [`Error::Io`] when the path cannot be read; [`Error::Run`] for a file of another kind or the folder of
/// a whole data set, when there is no image, or when a list names one that is not there.
pub fn find_images(path: &Path) -> Result<Vec<ImageFile>> {
    let refuse = |reason: &str| Error::Run {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_file() {
        return match stem(path) {
            _ if is_list(path) => listed(path),
            Some(_) => Ok(vec![ImageFile {
                image: path.to_owned(),
                name: mask_name(path),
                phase: None,
            }]),
            None => Err(refuse(
                "no image; expected a .nii, a .nii.gz or a cases.json",
            )),
        };
    }
    if path.join("dataset.json").is_file() {
        return Err(refuse("is a dataset; give its imagesTs (or imagesTr)"));
    }
    let mut found = below(path, Path::new(""), 0)?;
    if found.is_empty() {
        return Err(refuse(
            "no .nii or .nii.gz file here or below; give an image, a folder of images, a folder of \
             patients, or a cases.json",
        ));
    }
    found.sort_by(|a, b| a.image.cmp(&b.image));
    take_phases(path, &mut found)?;
    Ok(found)
}

/// How many cases of a `cases.json` have no image beside it, and are not among [`find_images`]; 0 for
/// anything else than a list.
///
/// # Errors
/// As [`find_images`].
pub fn cases_without_image(path: &Path) -> Result<usize> {
    if !is_list(path) {
        return Ok(0);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let list = read_list(path)?;
    let without = list.iter().filter(|case| image_of(folder, case).is_none());
    Ok(without.count())
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json") && path.is_file()
}

/// The NIfTI images at a path: the file itself, or those directly inside a folder, by name.
///
/// # Errors
/// As [`find_images`].
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>> {
    let images = find_images(path)?;
    Ok(images.into_iter().map(|found| found.image).collect())
}

/// The name of an image's mask: its own without nnU-Net's channel suffix `_0000`.
pub(super) fn mask_name(image: &Path) -> PathBuf {
    let name = stem(image).unwrap_or_else(|| "mask".to_owned());
    let short = name.strip_suffix("_0000").unwrap_or(&name);
    PathBuf::from(short)
}

/// Folders deeper than this are not looked into.
const DEEPEST: usize = 4;

fn below(folder: &Path, relative: &Path, depth: usize) -> Result<Vec<ImageFile>> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            folders.push(path);
        } else if stem(&path).is_some() {
            found.push(ImageFile {
                name: relative.join(mask_name(&path)),
                phase: (depth > 0).then(|| stem(&path)).flatten(),
                image: path,
            });
        }
    }
    // A folder with images is searched no deeper: what lies below are masks or other data.
    if found.is_empty() && depth < DEEPEST {
        folders.sort();
        for path in folders {
            let Some(name) = path.file_name() else {
                continue;
            };
            let text = name.to_string_lossy();
            // nnU-Net's labelsTr and labelsTs are masks.
            if text.starts_with('.') || text.starts_with("labels") {
                continue;
            }
            found.extend(below(&path, &relative.join(name), depth + 1)?);
        }
    }
    Ok(found)
}

/// The image of a listed case, where it is there.
fn image_of(folder: &Path, case: &Listed) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = match &case.image {
        Some(image) => vec![folder.join(image)],
        None => ["", "imagesTs", "images"]
            .iter()
            .flat_map(|part| {
                [".nii.gz", "_0000.nii.gz", ".nii", "_0000.nii"]
                    .map(|ending| folder.join(part).join(format!("{}{ending}", case.id)))
            })
            .collect(),
    };
    candidates.into_iter().find(|path| path.is_file())
}

fn listed(file: &Path) -> Result<Vec<ImageFile>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let refuse = |reason: String| Error::Run {
        path: file.to_owned(),
        reason,
    };
    let mut found = Vec::new();
    for case in read_list(file)? {
        let image = match (image_of(folder, &case), &case.image) {
            (Some(image), _) => image,
            (None, Some(image)) => {
                let reason = format!("case `{}`: {} is not there", case.id, image.display());
                return Err(refuse(reason));
            }
            // Lists of whole data sets name training cases too.
            (None, None) => continue,
        };
        if case.id.is_empty() || case.id.starts_with(['.', '/']) || case.id.contains("..") {
            return Err(refuse(format!("`{}` cannot name a mask", case.id)));
        }
        found.push(ImageFile {
            image,
            name: PathBuf::from(case.id),
            phase: case.phase,
        });
    }
    if found.is_empty() {
        let reason = "lists no image that is there; each object needs an `id`, and an `image` \
                      relative to this file";
        return Err(refuse(reason.into()));
    }
    Ok(found)
}

fn read_list(file: &Path) -> Result<Vec<Listed>> {
    let text = liseg_file::read_text(file).map_err(Error::io(file))?;
    serde_json::from_str(&text).map_err(|e| Error::Run {
        path: file.to_owned(),
        reason: format!("expected a list of objects with `id`, `image`, `phase`: {e}"),
    })
}

/// Phases from the `cases.json` of a folder of images, where there is one.
fn take_phases(folder: &Path, found: &mut [ImageFile]) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new(""));
    let Some(file) = [folder, parent]
        .map(|f| f.join("cases.json"))
        .into_iter()
        .find(|f| f.is_file())
    else {
        return Ok(());
    };
    let list = read_list(&file)?;
    for image in found {
        let case = list.iter().find(|case| Path::new(&case.id) == image.name);
        if let Some(phase) = case.and_then(|case| case.phase.clone()) {
            image.phase = Some(phase);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, files: &[&str]) {
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let found = find_images(path).unwrap();
        found.iter().map(|f| f.name.display().to_string()).collect()
    }

    #[test]
    fn files_folders_and_trees_of_patients() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(
            root,
            &[
                "flat/b_0000.nii.gz",
                "flat/a.nii",
                "flat/notes.txt",
                "flat/masks/a.nii",
            ],
        );
        assert_eq!(names(&root.join("flat")), ["a", "b"]);
        assert_eq!(names(&root.join("flat/b_0000.nii.gz")), ["b"]);
        touch(
            root,
            &[
                "liqa/Vendor_A/1-A/GED4.nii.gz",
                "liqa/Vendor_A/1-A/T2.nii.gz",
            ],
        );
        touch(root, &["liqa/Vendor_B1/7-B/T2.nii.gz", "liqa/info.csv"]);
        let found = find_images(&root.join("liqa")).unwrap();
        assert_eq!(
            names(&root.join("liqa")),
            ["Vendor_A/1-A/GED4", "Vendor_A/1-A/T2", "Vendor_B1/7-B/T2"]
        );
        assert_eq!(found[1].phase.as_deref(), Some("T2"));
        touch(root, &["set/labelsTs/a.nii", "set/imagesTs/a_0000.nii"]);
        assert_eq!(names(&root.join("set")), ["imagesTs/a"]);
        touch(root, &["set/dataset.json"]);
        for (wrong, part) in [("set", "imagesTs"), ("flat/notes.txt", ".nii.gz")] {
            let message = find_images(&root.join(wrong)).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        std::fs::create_dir(root.join("empty")).unwrap();
        let message = find_images(&root.join("empty")).unwrap_err().to_string();
        assert!(message.contains("cases.json"), "{message}");
    }

    #[test]
    fn lists_say_where_images_are_and_what_they_show() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(root, &["imagesTs/one_0000.nii.gz", "elsewhere/scan.nii"]);
        let list = root.join("cases.json");
        let text = r#"[{"id": "one", "phase": "GED4"},
                       {"id": "two", "image": "elsewhere/scan.nii", "vendor": "A"},
                       {"id": "training_case"}]"#;
        std::fs::write(&list, text).unwrap();
        assert_eq!(names(&list), ["one", "two"]);
        assert_eq!(cases_without_image(&list).unwrap(), 1);
        assert_eq!(cases_without_image(root).unwrap(), 0);
        let found = find_images(&root.join("imagesTs")).unwrap();
        assert_eq!(found[0].phase.as_deref(), Some("GED4"));
        for wrong in [
            r#"[{"id": "x", "image": "no.nii"}]"#,
            r#"[{"id": "x"}]"#,
            "{}",
        ] {
            std::fs::write(&list, wrong).unwrap();
            assert!(
                find_images(&list)
                    .unwrap_err()
                    .to_string()
                    .contains("cases.json")
            );
        }
    }
}
