//! The repaired copy that `liseg verify --fix` writes.

use super::failure::chain;
use super::{Failure, Result, Shared, say};
use liseg::data::{Dataset, RefusedCase, confined};
use liseg::mri::nifti;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What became of one file.
#[derive(Debug)]
pub(crate) struct File {
    /// Within the dataset.
    path: PathBuf,
    outcome: Result<nifti::Repair, String>,
}

impl File {
    /// Whether there is no copy of the file.
    pub(crate) fn failed(&self) -> bool {
        self.outcome.is_err()
    }

    /// What was put right, in words; empty for files that were sound.
    fn mended(&self) -> Vec<String> {
        let Ok(repair) = &self.outcome else {
            return Vec::new();
        };
        let found = repair.found.iter();
        let mut mended: Vec<String> = found
            .filter(|warning| !repair.left.contains(warning))
            .map(ToString::to_string)
            .collect();
        if repair.zeroed > 0 {
            mended.push(format!(
                "{} voxels were NaN or infinite, now 0",
                repair.zeroed
            ));
        }
        mended
    }
}

impl From<&File> for Value {
    fn from(file: &File) -> Self {
        json!({
            "file": file.path.display().to_string(),
            "mended": file.mended(),
            "error": file.outcome.as_ref().err(),
        })
    }
}

/// Copies the images and labels of a dataset through [`nifti::repair`], and its descriptions as they
/// are.
pub(crate) fn copy(dataset: &Dataset, source: &Path, folder: &Path) -> Result<Vec<File>> {
    let failed =
        |path: &Path, error: &std::io::Error| Failure::work(format!("{}: {error}", path.display()));
    let wrong = |what: &str| Failure::usage(format!("--fix {}: {what}", folder.display()));
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(wrong("the folder is not empty; name a new one"));
    }
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let real = |path: &Path| path.canonicalize().map_err(|error| failed(path, &error));
    if real(folder)?.starts_with(real(source)?) {
        // Only a folder that was empty can be gone again.
        let _ = std::fs::remove_dir(folder);
        return Err(wrong("it lies inside the dataset; name a folder elsewhere"));
    }
    for name in ["dataset.json", "cases.json"] {
        let from = source.join(name);
        if from.is_file() {
            let bytes = liseg_file::read(&from).map_err(|error| failed(&from, &error))?;
            let to = folder.join(name);
            liseg_file::write(&to, bytes).map_err(|error| failed(&to, &error))?;
        }
    }
    let cases = dataset.cases().iter();
    let files = cases.flat_map(|case| [Some(&case.image), case.label.as_ref()]);
    let files: Vec<&PathBuf> = files.flatten().collect();
    let copies: Vec<File> = files
        .into_par_iter()
        .map(|from| copy_file(from, source, folder))
        .collect::<Result<_>>()?;
    let refused = dataset.refused().iter().flat_map(refused_files);
    Ok(copies.into_iter().chain(refused).collect())
}

/// Copies one file to the same place below `folder`; what lies outside the dataset has no such place.
///
/// # Errors
/// When nothing more can be written.
fn copy_file(from: &Path, source: &Path, folder: &Path) -> Result<File> {
    let below = from.strip_prefix(source).unwrap_or(from);
    let outcome = match confined(below) {
        None => {
            Err("it lies outside the dataset, so a copy would too; move it into the dataset".into())
        }
        Some(path) => repair_to(from, &folder.join(path))?,
    };
    Ok(File {
        path: below.to_owned(),
        outcome,
    })
}

fn repair_to(from: &Path, to: &Path) -> Result<Result<nifti::Repair, String>> {
    if let Some(parent) = to.parent() {
        let failed = |error| Failure::work(format!("{}: {error}", parent.display()));
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match nifti::repair(from, to) {
        Err(error) if liseg_file::is_full(&error) => Err(Failure::work(chain(&error))),
        repaired => Ok(repaired.map_err(|error| chain(&error))),
    }
}

/// The files of a case that cannot be used, none of which is copied.
fn refused_files(case: &RefusedCase) -> impl Iterator<Item = File> {
    case.files.iter().map(|path| File {
        path: path.clone(),
        outcome: Err(case.reason.clone()),
    })
}

pub(crate) fn print(files: &[File], shared: &Shared) {
    for file in files {
        let path = file.path.display();
        if let Err(error) = &file.outcome {
            say!("no copy  {path}: {error}");
        }
        for what in file.mended().iter().filter(|_| !shared.quiet) {
            say!("mended   {path}: {what}");
        }
    }
    let mended = files.iter().filter(|file| !file.mended().is_empty());
    let failed = files.iter().filter(|file| file.failed());
    say!(
        "{} files, {} mended, {} not copied",
        files.len(),
        mended.count(),
        failed.count()
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg::volume::{Affine, Spacing, Volume};
    use ndarray::Array3;

    #[test]
    fn nothing_is_written_beside_the_copy() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let voxels = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (z * y + x) as f32);
        let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
        for name in [
            "dataset/imagesTr/a_0000.nii",
            "dataset/imagesTr/b.nii",
            "other/c.nii",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            let image = Volume::new(voxels.clone(), affine).unwrap();
            nifti::write_image(at(name), &image, None).unwrap();
        }
        let description = json!({
            "labels": {"background": 0, "liver": 1},
            "dataset": {
                "a": {"images": ["imagesTr/../imagesTr/a_0000.nii"]},
                "b": {"images": [at("dataset/imagesTr/b.nii")]},
                "c": {"images": ["../other/c.nii"]},
                "d": {"images": [at("other/c.nii")]},
            },
        });
        std::fs::write(at("dataset/dataset.json"), description.to_string()).unwrap();
        let before = at("other/c.nii").metadata().unwrap().modified().unwrap();

        let dataset = Dataset::open(&at("dataset")).unwrap();
        let files = copy(&dataset, &at("dataset"), &at("copy")).unwrap();
        let failed: Vec<bool> = files.iter().map(File::failed).collect();
        assert_eq!(failed, [false, false, true, true], "{files:?}");
        assert!(at("copy/imagesTr/a_0000.nii").is_file() && at("copy/imagesTr/b.nii").is_file());
        let after = at("other/c.nii").metadata().unwrap().modified().unwrap();
        assert_eq!(before, after, "the original is as it was");
        assert_eq!(std::fs::read_dir(at("other")).unwrap().count(), 1);
    }
}
