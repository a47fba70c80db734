//! The images of a folder and of those below it.

use super::names::{looks_like_mask, looks_like_masks};
use super::{FoundImages, ImageFile, names, stem};
use crate::{Error, Result};
use liseg_mri::{OtherFormat, nifti};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Folders deeper than this are not looked into.
const DEEPEST: usize = 32;

/// What was passed over.
#[derive(Default)]
struct PassedOver {
    masks: Vec<PathBuf>,
    mask_folders: Vec<PathBuf>,
    other_formats: Vec<(OtherFormat, PathBuf)>,
    output: Option<PathBuf>,
}

/// Every image below a folder, in order of paths.
///
/// # Errors
/// [`Error::Run`] when there is none.
pub(super) fn find(folder: &Path, output: Option<&Path>) -> Result<FoundImages> {
    let output = output.and_then(|path| path.canonicalize().ok());
    let mut found = FoundImages::default();
    let mut passed = PassedOver::default();
    let mut walk = WalkDir::new(folder)
        .follow_links(true)
        .max_depth(DEEPEST)
        .sort_by_file_name()
        .into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) if entry.depth() == 0 => continue,
            Ok(entry) => entry,
            Err(error) => {
                take_error(&mut found, folder, &error);
                continue;
            }
        };
        if is_hidden(&entry) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        } else if entry.file_type().is_dir() {
            if passed.passes_over(&entry, output.as_deref()) {
                walk.skip_current_dir();
            }
        } else {
            take_file(&mut found, &mut passed, folder, &entry);
        }
    }
    found.notes = passed.notes();
    if found.images.is_empty() && found.refused.is_empty() {
        let also = found.notes.iter().map(|note| format!("; {note}"));
        return Err(Error::Run {
            path: folder.to_owned(),
            reason: format!(
                "no image to predict here or below; give an image (.nii, .nii.gz), a folder of images, a \
                 folder of patients, or a cases.json{}",
                also.collect::<String>()
            ),
        });
    }
    Ok(found)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Takes what cannot be read: a folder, or a link that leads nowhere or back.
fn take_error(found: &mut FoundImages, folder: &Path, error: &walkdir::Error) {
    let path = error.path().unwrap_or(folder);
    let target = path.read_link().map(|target| target.display().to_string());
    match (target, path.exists()) {
        (Ok(target), false) => {
            // Of links, those that are called like images were meant to be predicted.
            if stem(path).is_some() {
                let reason = format!("it is a link to {target}, which does not exist");
                found.refuse(path, reason);
            }
        }
        _ => found.refuse(path, error.to_string()),
    }
}

fn take_file(found: &mut FoundImages, passed: &mut PassedOver, folder: &Path, entry: &DirEntry) {
    let path = entry.path();
    let Some(name) = entry.file_name().to_str() else {
        if stem(Path::new(&*entry.file_name().to_string_lossy())).is_some() {
            found.refuse(path, "its name is no text (UTF-8): rename the file");
        }
        return;
    };
    let Some(stem) = stem(path) else {
        let format = OtherFormat::of_file(path);
        let seen = format.map(|format| (format, path.to_owned()));
        passed.other_formats.extend(seen);
        return;
    };
    if is_lone_header(path) || nifti::header_path(path) != path && nifti::header_path(path).exists()
    {
        // A pair counts once, by its header.
        return;
    }
    if looks_like_mask(&stem) {
        passed.masks.push(path.to_owned());
        return;
    }
    let parent = path.parent().and_then(|p| p.strip_prefix(folder).ok());
    found.images.push(ImageFile {
        name: parent
            .unwrap_or(Path::new(""))
            .join(names::mask_name(Path::new(name))),
        phase: (entry.depth() > 1).then_some(stem),
        image: path.to_owned(),
        label: None,
    });
}

/// Whether a file is called `.hdr` and has no voxels beside it: other programs use the ending, too.
fn is_lone_header(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let Some(stem) = plain.strip_suffix(".hdr") else {
        return false;
    };
    let stem = &name[..stem.len()];
    ![".img", ".img.gz", ".IMG", ".IMG.GZ"]
        .iter()
        .any(|ending| path.with_file_name(format!("{stem}{ending}")).exists())
}

impl PassedOver {
    /// Whether a folder is left out, which is noted.
    fn passes_over(&mut self, entry: &DirEntry, output: Option<&Path>) -> bool {
        let path = entry.path();
        if output.is_some() && path.canonicalize().ok().as_deref() == output {
            self.output = Some(path.to_owned());
            return true;
        }
        let masks = looks_like_masks(&entry.file_name().to_string_lossy());
        if masks {
            self.mask_folders.push(path.to_owned());
        }
        masks
    }

    fn notes(self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(path) = self.output {
            notes.push(format!(
                "{} is the output and is passed over",
                path.display()
            ));
        }
        if let Some(all) = several(&self.mask_folders) {
            notes.push(format!("{all} passed over: masks, by the folder's name"));
        }
        if let Some(all) = several(&self.masks) {
            notes.push(format!(
                "{all} passed over: masks, by their names; give such a file itself to segment it"
            ));
        }
        for format in [
            OtherFormat::Dicom,
            OtherFormat::MetaImage,
            OtherFormat::Nrrd,
            OtherFormat::Mgh,
        ] {
            let of_format = self.other_formats.iter().filter(|(f, _)| *f == format);
            let paths: Vec<PathBuf> = of_format.map(|(_, path)| path.clone()).collect();
            if let Some(all) = several(&paths) {
                notes.push(format!(
                    "{all} passed over: {format} is not read here; {}",
                    format.conversion()
                ));
            }
        }
        notes
    }
}

/// `a is`, or `a and 2 more are`; `None` of nothing.
fn several(paths: &[PathBuf]) -> Option<String> {
    let first = paths.first()?.display();
    Some(match paths.len() - 1 {
        0 => format!("{first} is"),
        more => format!("{first} and {more} more are"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::find_images;
    use super::*;

    fn touch(folder: &Path, files: &[&str]) {
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    fn names(found: &FoundImages) -> Vec<String> {
        let name = |f: &ImageFile| f.name.display().to_string();
        found.images.iter().map(name).collect()
    }

    #[test]
    fn images_are_found_in_folders_and_trees_of_patients() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let files = [
            "flat/b_0000.nii.gz",
            "flat/a.nii",
            "flat/c.hdr",
            "flat/c.img",
        ];
        touch(root, &files);
        touch(
            root,
            &["flat/notes.txt", "flat/envi.hdr", "flat/.hidden/a.nii"],
        );
        let flat = find_images(&root.join("flat"), None).unwrap();
        assert_eq!(names(&flat), ["a", "b", "c"]);
        assert_eq!(flat.images[0].phase, None);
        assert_eq!((flat.notes.len(), flat.refused.len()), (0, 0));
        // An image above the patients does not hide them.
        let liqa = [
            "A/1-A/GED4.nii.gz",
            "A/1-A/T2.nii.gz",
            "B/a/b/c/d/e/7-B/T2.nii",
        ];
        touch(&root.join("liqa"), &liqa);
        touch(&root.join("liqa"), &["localizer.nii", "info.csv"]);
        let found = find_images(&root.join("liqa"), None).unwrap();
        assert_eq!(
            names(&found),
            ["A/1-A/GED4", "A/1-A/T2", "B/a/b/c/d/e/7-B/T2", "localizer"]
        );
        assert_eq!(found.images[1].phase.as_deref(), Some("T2"));
    }

    #[test]
    fn masks_other_formats_and_the_output_are_passed_over_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let files = ["p1/scan.nii", "p1/mask_GED4.nii.gz", "p1/scan_seg.nii.gz"];
        touch(root, &files);
        touch(root, &["labelsTr/x.nii", "out/p1/scan.nii.gz", "p1/b.mha"]);
        let found = find_images(root, Some(&root.join("out"))).unwrap();
        assert_eq!(names(&found), ["p1/scan"]);
        let notes = found.notes.join("\n");
        for part in [
            "out is the output",
            "labelsTr is passed over",
            "mask_GED4.nii.gz and 1 more are passed over",
            "b.mha is passed over: MetaImage",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        let only = find_images(&root.join("out"), None).unwrap();
        assert_eq!(names(&only), ["p1/scan"]);
        touch(root, &["masks_only/a_seg.nii.gz"]);
        let message = find_images(&root.join("masks_only"), None).unwrap_err();
        assert!(message.to_string().contains("a_seg.nii.gz is passed over"));
        touch(root, &["set/imagesTs/a.nii", "set/dataset.json"]);
        let message = find_images(&root.join("set"), None).unwrap_err();
        assert!(message.to_string().contains("imagesTs"), "{message}");
    }

    #[test]
    fn of_two_files_with_one_mask_none_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        touch(
            folder.path(),
            &["k.nii", "k.nii.gz", "l.nii", "l_0000.nii.gz", "m.nii"],
        );
        let found = find_images(folder.path(), None).unwrap();
        assert_eq!(names(&found), ["m"]);
        assert_eq!(found.refused.len(), 4);
        let message = found.refused[0].1.to_string();
        assert!(message.contains("k.nii and "), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_nowhere_and_names_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(root, &["a.nii"]);
        std::os::unix::fs::symlink("/nowhere/b.nii", root.join("b.nii")).unwrap();
        std::os::unix::fs::symlink("/nowhere/notes", root.join("notes")).unwrap();
        let nameless = std::ffi::OsStr::from_bytes(b"\xff.nii");
        let named_in_bytes = std::fs::write(root.join(nameless), b"").is_ok();
        let found = find_images(root, None).unwrap();
        assert_eq!(names(&found), ["a"]);
        let reasons: Vec<_> = found.refused.iter().map(|(_, e)| e.to_string()).collect();
        assert!(reasons[0].contains("link to /nowhere/b.nii"), "{reasons:?}");
        assert_eq!(reasons.len(), 1 + usize::from(named_in_bytes));
    }
}
