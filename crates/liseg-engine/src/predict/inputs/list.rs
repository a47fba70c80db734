//! The images of a `cases.json`.

use super::{FoundImages, ImageFile};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// One image of a `cases.json` that is to be predicted.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    image: Option<PathBuf>,
    phase: Option<String>,
    label: Option<PathBuf>,
}

pub(super) fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json")
}

/// The images that a list names.
///
/// # Errors
/// [`Error::Run`] for a file that is no list, and for one without any image.
pub(super) fn find(file: &Path) -> Result<FoundImages> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut found = FoundImages::default();
    let mut without = 0;
    for case in read(file)? {
        let image = match (image_of(folder, &case), &case.image) {
            (Some(image), _) => image,
            (None, Some(image)) => {
                let reason = format!("case `{}` of {} is not there", case.id, file.display());
                found.refuse(&folder.join(image), reason);
                continue;
            }
            // Lists of whole data sets name training cases too.
            (None, None) => {
                without += 1;
                continue;
            }
        };
        if !names_a_mask(&case.id) {
            let reason = format!(
                "`{}`, its id in {}, cannot name a mask: it would be hidden, or lie outside the output",
                case.id,
                file.display()
            );
            found.refuse(&image, reason);
            continue;
        }
        found.images.push(ImageFile {
            image,
            name: PathBuf::from(case.id),
            phase: case.phase,
            label: case.label.map(|label| folder.join(label)),
        });
    }
    if found.images.is_empty() && found.refused.is_empty() {
        let reason = "lists no image that is there; each object needs an `id`, and an `image` \
                      relative to this file";
        return Err(Error::Run {
            path: file.to_owned(),
            reason: reason.to_owned(),
        });
    }
    if without > 0 {
        let list = file.display();
        let note = format!("{without} cases of {list} have no image beside it and are passed over");
        found.notes.push(note);
    }
    Ok(found)
}

/// Whether an id stays within the output folder and is visible there.
fn names_a_mask(id: &str) -> bool {
    let parts = Path::new(id).components();
    let normal = parts
        .clone()
        .all(|part| matches!(part, Component::Normal(_)));
    normal && parts.count() > 0 && !id.starts_with('.') && !id.ends_with('/')
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

fn read(file: &Path) -> Result<Vec<Listed>> {
    let text = liseg_file::read_text(file).map_err(Error::io(file))?;
    serde_json::from_str(&text).map_err(|e| Error::Run {
        path: file.to_owned(),
        reason: format!("expected a list of objects with `id`, `image`, `phase`: {e}"),
    })
}

/// Phases from the `cases.json` of a folder of images, where there is one.
///
/// # Errors
/// As [`find`].
pub(super) fn take_phases(folder: &Path, images: &mut [ImageFile]) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new(""));
    let Some(file) = [folder, parent]
        .map(|f| f.join("cases.json"))
        .into_iter()
        .find(|f| f.is_file())
    else {
        return Ok(());
    };
    let list = read(&file)?;
    for image in images {
        let case = list.iter().find(|case| Path::new(&case.id) == image.name);
        if let Some(phase) = case.and_then(|case| case.phase.clone()) {
            image.phase = Some(phase);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::find_images;
    use super::*;

    #[test]
    fn lists_say_where_images_are_and_what_they_show() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["imagesTs/one_0000.nii.gz", "elsewhere/scan.nii"] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let list = root.join("cases.json");
        let write = |text: &str| std::fs::write(&list, text).unwrap();
        write(
            r#"[{"id": "one", "phase": "GED4"}, {"id": "training_case"},
                {"id": "two", "image": "elsewhere/scan.nii", "vendor": "A"},
                {"id": "gone", "image": "no.nii"},
                {"id": "../up", "image": "elsewhere/scan.nii"}]"#,
        );
        let found = find_images(&list, None).unwrap();
        let names: Vec<_> = found.images.iter().map(|f| f.name.as_path()).collect();
        assert_eq!(names, [Path::new("one"), Path::new("two")]);
        assert!(found.notes[0].starts_with("1 cases"), "{:?}", found.notes);
        let reasons: Vec<_> = found.refused.iter().map(|(_, e)| e.to_string()).collect();
        assert!(reasons[0].contains("`gone`") && reasons[1].contains("`../up`"));
        let beside = find_images(&root.join("imagesTs"), None).unwrap();
        assert_eq!(beside.images[0].phase.as_deref(), Some("GED4"));
        for wrong in [r#"[{"id": "x"}]"#, "{}"] {
            write(wrong);
            let message = find_images(&list, None).unwrap_err().to_string();
            assert!(message.contains("cases.json"), "{message}");
        }
        for (id, expected) in [("a/b", true), ("", false), ("/a", false), ("a/..", false)] {
            assert_eq!(names_a_mask(id), expected, "{id}");
        }
    }
}
