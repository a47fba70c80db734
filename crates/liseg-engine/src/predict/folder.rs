//! Predicting many files.

use super::Model;
use crate::{Error, Result};
use liseg_mri::nifti;
use std::path::{Path, PathBuf};

/// What happened to one file.
#[derive(Debug)]
pub enum PredictEvent<'a> {
    /// Work on a file begins.
    Started {
        /// The image.
        image: &'a Path,
        /// Its place among all files, from 0.
        index: usize,
    },
    /// A tile of the current file is done.
    Tile {
        /// Tiles done.
        done: usize,
        /// Tiles in all.
        total: usize,
    },
    /// The mask is written.
    Finished {
        /// The image.
        image: &'a Path,
        /// The mask.
        mask: &'a Path,
        /// Foreground volume in millilitres.
        foreground_ml: f64,
        /// Seconds the file took.
        seconds: f64,
    },
    /// The mask was there already.
    Skipped {
        /// The image.
        image: &'a Path,
    },
    /// The file could not be predicted; the others go on.
    Failed {
        /// The image.
        image: &'a Path,
        /// Why.
        error: &'a Error,
    },
}

/// What became of a set of files.
#[derive(Debug, Default)]
pub struct FolderOutcome {
    /// Masks written.
    pub written: Vec<PathBuf>,
    /// Images whose mask was there already.
    pub skipped: Vec<PathBuf>,
    /// Masks without any foreground: the liver was missed, or the image is not what the model knows.
    pub empty: Vec<PathBuf>,
    /// Images that failed, with the reason.
    pub failed: Vec<(PathBuf, Error)>,
    /// Whether the work was stopped before the last file.
    pub stopped: bool,
}

/// The NIfTI images at a path: the file itself, or those directly inside a folder, by name.
///
/// # Errors
/// [`Error::Io`] when the path cannot be read; [`Error::Run`] when it holds no `.nii` or `.nii.gz`.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let file = entry.map_err(Error::io(path))?.path();
        if file.is_file() && stem(&file).is_some() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let reason = "no .nii or .nii.gz file here; give an image, or a folder of images".into();
        return Err(Error::Run {
            path: path.to_owned(),
            reason,
        });
    }
    files.sort();
    Ok(files)
}

/// Where the mask of an image goes: its name without nnU-Net's channel suffix `_0000`, as
/// `.nii.gz`.
pub(crate) fn mask_file(image: &Path, output: &Path) -> PathBuf {
    let name = stem(image).unwrap_or_else(|| "mask".to_owned());
    let name = name
        .strip_suffix("_0000")
        .map_or(name.clone(), str::to_owned);
    output.join(format!("{name}.nii.gz"))
}

/// The file name without `.nii` or `.nii.gz`; `None` for other files and for hidden ones.
pub(crate) fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let ending = [".nii.gz", ".nii"]
        .into_iter()
        .find(|e| lower.ends_with(e))?;
    let stem = &name[..name.len() - ending.len()];
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

/// How a folder is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FolderOptions {
    /// Skip images whose mask is there already.
    pub resume: bool,
    /// Write each foreground class's probability beside the mask as `<case>_probability_<class>.nii.gz`.
    pub probabilities: bool,
}

/// Predicts images one after another and writes each mask, in the geometry of its image, as soon
/// as it is known. A file that fails is reported and does not stop the others.
///
/// `on_event` hears of everything and stops the work by returning false.
///
/// # Errors
/// When the output folder cannot be made, or two images would write the same mask.
pub fn predict_files(
    model: &Model,
    images: &[PathBuf],
    output: &Path,
    options: FolderOptions,
    on_event: &mut dyn FnMut(PredictEvent<'_>) -> bool,
) -> Result<FolderOutcome> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    refuse_clashes(images, output)?;
    let mut outcome = FolderOutcome::default();
    for (index, image) in images.iter().enumerate() {
        let mask = mask_file(image, output);
        if options.resume && mask.is_file() {
            on_event(PredictEvent::Skipped { image });
            outcome.skipped.push(image.clone());
            continue;
        }
        if !on_event(PredictEvent::Started { image, index }) {
            outcome.stopped = true;
            break;
        }
        match predict_one(model, image, &mask, options, on_event) {
            Ok(Some(foreground_ml)) => {
                if foreground_ml == 0.0 {
                    outcome.empty.push(mask.clone());
                }
                outcome.written.push(mask);
            }
            Ok(None) => {
                outcome.stopped = true;
                break;
            }
            Err(error) => {
                on_event(PredictEvent::Failed {
                    image,
                    error: &error,
                });
                outcome.failed.push((image.clone(), error));
            }
        }
    }
    Ok(outcome)
}

fn refuse_clashes(images: &[PathBuf], output: &Path) -> Result<()> {
    let mut seen = std::collections::HashMap::new();
    for image in images {
        let mask = mask_file(image, output);
        if same_file(&mask, image) {
            let reason = "the mask would overwrite the image; choose another output folder".into();
            return Err(Error::Run {
                path: image.clone(),
                reason,
            });
        }
        if let Some(first) = seen.insert(mask.clone(), image) {
            let reason = format!(
                "{} and {} would both be written here",
                first.display(),
                image.display()
            );
            return Err(Error::Run { path: mask, reason });
        }
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Predicts one file; returns the foreground's volume in millilitres, or `None` when stopped.
fn predict_one(
    model: &Model,
    image: &Path,
    mask: &Path,
    options: FolderOptions,
    on_event: &mut dyn FnMut(PredictEvent<'_>) -> bool,
) -> Result<Option<f64>> {
    let start = std::time::Instant::now();
    let file = nifti::read_image(image)?;
    let mut on_tile = |done, total| on_event(PredictEvent::Tile { done, total });
    let prediction = model.predict(&file.volume, options.probabilities, &mut on_tile)?;
    let Some(prediction) = prediction else {
        return Ok(None);
    };
    for (class, map) in prediction
        .probabilities
        .iter()
        .flatten()
        .enumerate()
        .skip(1)
    {
        let name = stem(mask).unwrap_or_default();
        let path = mask.with_file_name(format!("{name}_probability_{class}.nii.gz"));
        nifti::write_image(&path, map, Some(&file.header))?;
    }
    nifti::write_labels(mask, &prediction.labels, Some(&file.header))?;
    let voxels = prediction.labels.data().iter().filter(|&&l| l > 0).count();
    let foreground_ml = voxels as f64 * prediction.labels.spacing().voxel_volume_mm3() / 1000.0;
    let seconds = start.elapsed().as_secs_f64();
    on_event(PredictEvent::Finished {
        image,
        mask,
        foreground_ml,
        seconds,
    });
    Ok(Some(foreground_ml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_named_like_their_images() {
        let name = |image: &str| mask_file(Path::new(image), Path::new("out"));
        assert_eq!(
            name("in/case_01_0000.nii.gz"),
            Path::new("out/case_01.nii.gz")
        );
        assert_eq!(name("in/case.v1.2.nii"), Path::new("out/case.v1.2.nii.gz"));
        assert_eq!(name("GED4.NII.GZ"), Path::new("out/GED4.nii.gz"));
        assert_eq!(stem(Path::new("a/notes.txt")), None);
        assert_eq!(stem(Path::new("a/.nii.gz")), None);
    }

    #[test]
    fn two_images_never_share_a_mask() {
        let images = [PathBuf::from("a/x.nii"), PathBuf::from("a/x_0000.nii.gz")];
        assert!(refuse_clashes(&images, Path::new("out")).is_err());
        assert!(refuse_clashes(&images[..1], Path::new("out")).is_ok());
    }
}
