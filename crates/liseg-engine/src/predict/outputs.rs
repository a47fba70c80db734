//! The files that a call writes, and that none of them lands on another file.

use super::Model;
use super::folder::FolderOptions;
use super::inputs::ImageFile;
use crate::{Error, Result};
use liseg_file::resolved;
use liseg_mri::nifti;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The file `<name><suffix>.nii.gz` of a case; names may have dots in them.
fn beside(file: &ImageFile, output: &Path, suffix: &str) -> PathBuf {
    let name = file.name.file_name().unwrap_or_default().to_string_lossy();
    output
        .join(&file.name)
        .with_file_name(format!("{name}{suffix}.nii.gz"))
}

/// Where the mask of an image goes.
pub(super) fn mask_file(file: &ImageFile, output: &Path) -> PathBuf {
    beside(file, output, "")
}

/// Where the probability of a foreground class goes; classes count from 1.
pub(super) fn probability_file(file: &ImageFile, output: &Path, class: usize) -> PathBuf {
    beside(file, output, &format!("_probability_{class}"))
}

/// Where the map of entropy goes.
pub(super) fn entropy_file(file: &ImageFile, output: &Path) -> PathBuf {
    beside(file, output, "_entropy")
}

/// Where the map of disagreement between networks goes.
pub(super) fn disagreement_file(file: &ImageFile, output: &Path) -> PathBuf {
    beside(file, output, "_disagreement")
}

/// What a call writes for one case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Foreground classes whose probabilities are written, 0 for none.
    pub(super) probabilities: usize,
    pub(super) entropy: bool,
    pub(super) disagreement: bool,
}

impl Written {
    pub(super) fn of(model: &Model, options: FolderOptions) -> Self {
        Self {
            probabilities: if options.probabilities {
                model.plan().classes() - 1
            } else {
                0
            },
            entropy: options.uncertainty,
            disagreement: options.uncertainty && model.network_count() > 1,
        }
    }

    /// All files of a case, the mask first.
    pub(super) fn files(self, file: &ImageFile, output: &Path) -> Vec<PathBuf> {
        let mut files = vec![mask_file(file, output)];
        files.extend((1..=self.probabilities).map(|class| probability_file(file, output, class)));
        files.extend(self.entropy.then(|| entropy_file(file, output)));
        files.extend(self.disagreement.then(|| disagreement_file(file, output)));
        files
    }
}

/// Compares all that will be written with all inputs, with each other and with what is there.
///
/// # Errors
/// [`Error::Run`] when a file would replace an image or two cases share one; and, unless `options` allow
/// it, when a file is there already.
pub(super) fn check(
    images: &[ImageFile],
    output: &Path,
    written: Written,
    options: FolderOptions,
) -> Result<()> {
    refuse_labels_of_dataset(output)?;
    let mut inputs = HashMap::new();
    for file in images {
        let image = [file.image.clone(), nifti::header_path(&file.image)];
        for path in image.iter().chain(&file.label) {
            inputs.insert(resolved(path), path.clone());
        }
    }
    let mut seen: HashMap<PathBuf, &Path> = HashMap::new();
    for file in images {
        for path in written.files(file, output) {
            let place = resolved(&path);
            if let Some(image) = inputs.get(&place) {
                return Err(Error::Run {
                    path: path.clone(),
                    reason: format!(
                        "is an image to predict or its label ({}) and would be overwritten; choose another output folder",
                        image.display()
                    ),
                });
            }
            if let Some(first) = seen.insert(place, &file.image) {
                return Err(Error::Run {
                    path,
                    reason: format!(
                        "{} and {} would both be written here",
                        first.display(),
                        file.image.display()
                    ),
                });
            }
        }
    }
    // What is there of other parts may have been written by them.
    let part = options
        .part
        .map_or(images.iter().collect(), |part| part.of(images));
    let mut existing = part
        .into_iter()
        .flat_map(|file| written.files(file, output))
        .filter(|path| path.symlink_metadata().is_ok());
    match existing.next() {
        Some(first) if !(options.resume || options.overwrite) => Err(Error::Run {
            path: first,
            reason: format!(
                "is there already{}; choose another output folder, go on after a stop with resume \
                 (--resume), or replace what is there with overwrite (--overwrite)",
                match existing.count() {
                    0 => String::new(),
                    more => format!(", as are {more} more of the files to write"),
                }
            ),
        }),
        _ => Ok(()),
    }
}

/// Refuses the folder of a dataset's labels, such as labelsTr beside imagesTr, whose files are no masks of an earlier call: neither `overwrite` nor `resume`
/// means them.
fn refuse_labels_of_dataset(output: &Path) -> Result<()> {
    let place = resolved(output);
    let part = place.file_name().and_then(|name| name.to_str());
    let part = part.and_then(|name| name.strip_prefix("labels"));
    let part = part.filter(|part| !part.is_empty());
    match part {
        Some(part) if place.with_file_name(format!("images{part}")).is_dir() => Err(Error::Run {
            path: output.to_owned(),
            reason: "holds the labels of a dataset; choose another output folder".to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_dataset_are_no_masks() {
        let folder = tempfile::tempdir().unwrap();
        let labels = folder.path().join("labelsTr");
        for made in [&labels, &folder.path().join("imagesTr")] {
            std::fs::create_dir(made).unwrap();
        }
        let images = [ImageFile::new("elsewhere/x.nii")];
        for options in [(true, false), (false, true)] {
            let (resume, overwrite) = options;
            let options = FolderOptions {
                resume,
                overwrite,
                ..FolderOptions::default()
            };
            assert!(refusal(&images, &labels, options).contains("labels of a dataset"));
        }
        check(
            &images,
            &folder.path().join("labelsTs"),
            ALL,
            FolderOptions::default(),
        )
        .unwrap();
    }

    const ALL: Written = Written {
        probabilities: 1,
        entropy: true,
        disagreement: true,
    };

    fn refusal(images: &[ImageFile], output: &Path, options: FolderOptions) -> String {
        let error = check(images, output, ALL, options).unwrap_err();
        error.to_string()
    }

    #[test]
    fn files_are_named_like_their_images() {
        let deep = ImageFile {
            name: "A/1-A/GED.4".into(),
            ..ImageFile::new("x.nii")
        };
        let files = ALL.files(&deep, Path::new("out"));
        let expected = ["", "_probability_1", "_entropy", "_disagreement"];
        let expected = expected.map(|s| PathBuf::from(format!("out/A/1-A/GED.4{s}.nii.gz")));
        assert_eq!(files, expected);
    }

    #[test]
    fn two_cases_never_share_a_file() {
        let out = Path::new("out");
        let images = [ImageFile::new("a/x.nii"), ImageFile::new("b/x_0000.nii.gz")];
        assert!(refusal(&images, out, FolderOptions::default()).contains("b/x_0000.nii.gz"));
        let images = [ImageFile::new("x.nii"), ImageFile::new("x_entropy.nii")];
        let message = refusal(&images, out, FolderOptions::default());
        assert!(message.contains("x_entropy.nii.gz"), "{message}");
        let mask_alone = Written {
            probabilities: 0,
            entropy: false,
            disagreement: false,
        };
        check(&images, out, mask_alone, FolderOptions::default()).unwrap();
    }

    #[test]
    fn inputs_and_foreign_files_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.nii.gz", "b.nii.gz"] {
            std::fs::write(at(name), b"").unwrap();
        }
        // Each image is called as the other's mask is.
        let swapped = [("b", "a.nii.gz"), ("a", "b.nii.gz")].map(|(name, image)| ImageFile {
            name: name.into(),
            ..ImageFile::new(at(image))
        });
        let overwrite = FolderOptions {
            overwrite: true,
            ..FolderOptions::default()
        };
        let message = refusal(&swapped, folder.path(), overwrite);
        assert!(message.contains("is an image to predict"), "{message}");
        // A mask of somebody else's.
        let elsewhere = [ImageFile {
            name: "a".into(),
            ..ImageFile::new("elsewhere.nii")
        }];
        let message = refusal(&elsewhere, folder.path(), FolderOptions::default());
        assert!(message.contains("--overwrite"), "{message}");
        check(&elsewhere, folder.path(), ALL, overwrite).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_to_inputs_are_seen_through() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("x.nii.gz");
        std::fs::write(&image, b"").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let overwrite = FolderOptions {
            overwrite: true,
            ..FolderOptions::default()
        };
        let message = refusal(&[ImageFile::new(&image)], &link, overwrite);
        assert!(message.contains("is an image to predict"), "{message}");
    }
}
