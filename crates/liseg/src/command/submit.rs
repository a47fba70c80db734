//! `liseg submit`: what a challenge's container runs.

use super::failure::chain;
use super::memory_size::MemorySize;
use super::predict::{CleaningArguments, ModelArguments, predict_with_progress};
use super::{Failure, Outcome, Result, Shared, print_json, progress, say};
use liseg::engine::predict::{FolderOptions, ImageFile, Postprocessing};
use liseg::mri::nifti;
use liseg::volume::Volume;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images that are segmented; patients may lack any of them, and have others beside.
const PHASES: [&str; 4] = ["GED4", "T1", "T2", "DWI_800"];

/// Folders deeper than this below the input are not looked into.
const DEEPEST: usize = 4;

/// Segment a folder of patients by the contract of the CARE-Liver challenge.
///
/// Reads `INPUT/…/CASE/{GED4,T1,T2,DWI_800}.nii.gz`, whichever are there, and writes
/// `OUTPUT/LiSeg_pred/CASE/{GED4,T1,T2,DWI_800}_pred.nii.gz`, each on the grid of its image. Nothing is
/// written into the input. An image that cannot be read gets an empty mask if at least its header can;
/// everything that went wrong is told on standard error and in `OUTPUT/liseg-submit.json`, and does not
/// stop the rest.
#[derive(Debug, clap::Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    model: ModelArguments,
    /// Folder of patients, which may be read-only.
    #[arg(long, value_name = "DIR", default_value = "/input")]
    input: PathBuf,
    /// Where masks go.
    #[arg(long, value_name = "DIR", default_value = "/output")]
    output: PathBuf,
    /// Folder for the masks below the output.
    #[arg(long, value_name = "NAME", default_value = "LiSeg_pred")]
    folder: String,
    #[command(flatten)]
    cleaning: CleaningArguments,
    /// Largest memory the process may take, as in 3GiB or 800MB.
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<MemorySize>,
}

impl Submit {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let images = find(&self.input)?;
        let mut model = self.model.load(shared)?;
        self.cleaning.apply(&mut model);
        if model.postprocessing.steps.is_empty() && !self.cleaning.leaves_masks() {
            // There is one liver, and the ranking counts Hausdorff distances.
            model.postprocessing = Postprocessing::of(true, true, None);
        }
        let masks = self.output.join(&self.folder);
        let options = FolderOptions {
            max_memory: self.max_memory.map(|size| size.0),
            ..FolderOptions::default()
        };
        let outcome = predict_with_progress(&mut model, &images, &masks, options, shared)?;
        let mut failures = Vec::new();
        let mut written = outcome.written.len();
        for (image, error) in &outcome.failed {
            let instead = images
                .iter()
                .find(|file| file.image == *image)
                .map(|file| empty_mask(file, &masks));
            let note = match instead {
                Some(Ok(())) => {
                    written += 1;
                    "an empty mask was written".to_owned()
                }
                Some(Err(error)) => format!("no mask was written: {}", chain(&error)),
                None => "no mask was written".to_owned(),
            };
            progress::note(shared, None, &format!("{}: {note}", image.display()));
            failures.push(json!({"image": image, "reason": chain(error), "instead": note}));
        }
        let summary = json!({
            "images": images.len(),
            "masks": written,
            "empty": outcome.empty,
            "failed": failures,
            "postprocessing": model.postprocessing,
            "seconds": outcome.seconds,
        });
        // The summary is for people; the masks are what counts.
        let text = serde_json::to_string_pretty(&summary).unwrap_or_default() + "\n";
        if let Err(error) = liseg_file::write(self.output.join("liseg-submit.json"), text) {
            progress::note(shared, None, &format!("liseg-submit.json: {error}"));
        }
        if shared.json {
            print_json(&summary);
        } else {
            let failed = failures.len();
            say!(
                "{written} masks in {}, {failed} images failed",
                masks.display()
            );
        }
        Ok(if written > 0 {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

/// The images to segment, named as their masks will be.
fn find(input: &Path) -> Result<Vec<ImageFile>> {
    let mut cases: Vec<(PathBuf, Vec<(&'static str, PathBuf)>)> = Vec::new();
    let unreadable = collect(input, Path::new(""), 0, &mut cases);
    if cases.is_empty() {
        let reason = unreadable.map_or(String::new(), |e| format!(" ({e})"));
        return Err(Failure::work(format!(
            "{}: no folder with {} as .nii.gz or .nii in it{reason}",
            input.display(),
            PHASES.join(", ")
        )));
    }
    // Patients go by the name of their folder; where two vendors have one name, by the whole path.
    let mut seen: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let short = |path: &Path| PathBuf::from(path.file_name().unwrap_or("case".as_ref()));
    for (path, _) in &cases {
        *seen.entry(short(path)).or_default() += 1;
    }
    let mut images = Vec::new();
    for (path, phases) in cases {
        let name = short(&path);
        let name = if seen[&name] > 1 { path } else { name };
        for (phase, image) in phases {
            images.push(ImageFile {
                image,
                name: name.join(format!("{phase}_pred")),
                phase: Some(phase.to_owned()),
            });
        }
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// Adds the folders with images; a folder that cannot be read is passed over, and the last such error
/// returned.
fn collect(
    folder: &Path,
    relative: &Path,
    depth: usize,
    cases: &mut Vec<(PathBuf, Vec<(&'static str, PathBuf)>)>,
) -> Option<std::io::Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Some(error),
    };
    let mut failure = None;
    let mut phases: BTreeMap<&'static str, PathBuf> = BTreeMap::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if depth < DEEPEST && !name.starts_with('.') {
                failure = collect(&path, &relative.join(name), depth + 1, cases).or(failure);
            }
            continue;
        }
        let lower = name.to_ascii_lowercase();
        let stem = lower
            .strip_suffix(".nii.gz")
            .or_else(|| lower.strip_suffix(".nii"));
        let phase = PHASES
            .iter()
            .find(|p| stem == Some(p.to_ascii_lowercase().as_str()));
        if let Some(phase) = phase {
            phases.insert(phase, path);
        }
    }
    if !phases.is_empty() {
        cases.push((relative.to_owned(), phases.into_iter().collect()));
    }
    failure
}

/// A mask without foreground on the grid of an image whose voxels cannot be used.
fn empty_mask(file: &ImageFile, output: &Path) -> liseg::engine::Result<()> {
    let header = nifti::read_header(&file.image)?;
    let geometry = header.geometry();
    let zeros = ndarray::Array3::<u8>::zeros(geometry.shape);
    let mask = output.join(format!("{}.nii.gz", file.name.display()));
    if let Some(folder) = mask.parent() {
        std::fs::create_dir_all(folder).map_err(|source| liseg::engine::Error::Io {
            path: folder.to_owned(),
            source,
        })?;
    }
    Ok(nifti::write_labels(
        &mask,
        &Volume::new(zeros, geometry.affine)?,
        Some(&header),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whatever_phases_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "Vendor_A/1-A/GED4.nii.gz",
            "Vendor_A/1-A/GED1.nii.gz",
            "Vendor_A/1-A/dwi_800.nii.gz",
            "Vendor_B1/2-B1/T2.nii",
            "Vendor_A/3/T1.nii.gz",
            "Vendor_B1/3/T1.nii.gz",
            "info.csv",
        ];
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let names: Vec<String> = find(folder.path())
            .unwrap()
            .iter()
            .map(|file| file.name.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "1-A/DWI_800_pred",
                "1-A/GED4_pred",
                "2-B1/T2_pred",
                "Vendor_A/3/T1_pred",
                "Vendor_B1/3/T1_pred",
            ]
        );
        let nothing = find(&folder.path().join("Vendor_A/none"))
            .unwrap_err()
            .to_string();
        assert!(nothing.contains("DWI_800"), "{nothing}");
    }
}
