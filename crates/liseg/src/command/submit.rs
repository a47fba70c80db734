//! `liseg submit`: what a challenge's container runs.

use super::failure::chain;
use super::memory_size::MemorySize;
use super::predict::{CleaningArguments, ModelArguments, predict_with_progress};
use super::{Failure, Outcome, Result, Shared, print_json, progress, say, terminal};
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
        let found = find(&self.input)?;
        for note in &found.notes {
            progress::note(shared, None, &format!("note: {note}"));
        }
        let (images, ambiguous) = (found.images, found.ambiguous);
        let mut model = self.model.load(shared)?;
        self.cleaning.apply(&mut model);
        if model.postprocessing.steps.is_empty() && !self.cleaning.leaves_masks() {
            // There is one liver, and the ranking counts Hausdorff distances.
            model.postprocessing = Postprocessing::of(true, true, None);
        }
        let masks = self.output.join(&self.folder);
        let options = FolderOptions {
            max_memory: self.max_memory.map(|size| size.0),
            // A container may be started again over what it wrote.
            overwrite: true,
            ..FolderOptions::default()
        };
        let outcome = predict_with_progress(&mut model, &images, &masks, options, shared)?;
        let failed = outcome.failed.iter().filter_map(|(image, error)| {
            let file = images.iter().find(|file| file.image == *image)?;
            Some((file, chain(error)))
        });
        for (_, reason) in &ambiguous {
            terminal::complain(reason);
        }
        let ambiguous = ambiguous
            .iter()
            .map(|(file, reason)| (file, reason.clone()));
        let mut failures = Vec::new();
        let mut written = outcome.written.len();
        for (file, reason) in failed.chain(ambiguous) {
            let note = match empty_mask(file, &masks) {
                Ok(()) => {
                    written += 1;
                    "an empty mask was written".to_owned()
                }
                Err(error) => format!("no mask was written: {}", chain(&error)),
            };
            progress::note(shared, None, &format!("{}: {note}", file.image.display()));
            failures.push(json!({"image": file.image, "reason": reason, "instead": note}));
        }
        let summary = json!({
            "images": images.len() + failures.len() - outcome.failed.len(),
            "masks": written,
            "empty": outcome.empty,
            "failed": failures,
            "postprocessing": model.postprocessing,
            "seconds": outcome.seconds,
        });
        // The summary is for people; the masks are what counts.
        let text = format!("{summary:#}\n");
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
        // A container that fails is no submission at all.
        Ok(if written > 0 {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

/// What is to be segmented.
#[derive(Debug, Default)]
struct Cohort {
    images: Vec<ImageFile>,
    /// Images of which there are two, and why none of them is taken.
    ambiguous: Vec<(ImageFile, String)>,
    notes: Vec<String>,
}

/// What lies below the input folder.
#[derive(Default)]
struct Found {
    /// Folders with images: the path below the input, and the files of each phase.
    cases: Vec<(PathBuf, BTreeMap<&'static str, Vec<PathBuf>>)>,
    /// NIfTI files of other names.
    others: Vec<PathBuf>,
    /// Folders that could not be read, and why.
    unreadable: Vec<String>,
}

/// The images to segment, named as their masks will be, and what a reader should know.
fn find(input: &Path) -> Result<Cohort> {
    let mut found = Found::default();
    found.collect(input, Path::new(""), 0);
    let mut images = Cohort::default();
    if let [first, rest @ ..] = &found.others[..] {
        let passed_over = match rest.len() {
            0 => "is passed over".to_owned(),
            more => format!("and {more} more are passed over"),
        };
        images.notes.push(format!(
            "{} {passed_over}: the contract is of {}",
            first.display(),
            PHASES.join(", ")
        ));
    }
    images.notes.extend(found.unreadable);
    if found.cases.is_empty() {
        let notes = images.notes.iter().map(|note| format!("; {note}"));
        return Err(Failure::work(format!(
            "{}: no folder with {} as .nii.gz or .nii in it{}",
            input.display(),
            PHASES.join(", "),
            notes.collect::<String>()
        )));
    }
    // Patients go by the name of their folder; where two vendors have one name, by the whole path.
    let mut seen: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let short = |path: &Path| PathBuf::from(path.file_name().unwrap_or("case".as_ref()));
    for (path, _) in &found.cases {
        *seen.entry(short(path)).or_default() += 1;
    }
    for (path, phases) in found.cases {
        let name = short(&path);
        let name = if seen[&name] > 1 { path } else { name };
        for (phase, files) in phases {
            let several: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
            let Some(image) = files.into_iter().next() else {
                continue;
            };
            let file = ImageFile {
                image,
                name: name.join(format!("{phase}_pred")),
                phase: Some(phase.to_owned()),
                label: None,
            };
            if several.len() > 1 {
                let reason = format!(
                    "{} are both {phase} of one patient; keep one",
                    several.join(" and ")
                );
                images.ambiguous.push((file, reason));
            } else {
                images.images.push(file);
            }
        }
    }
    images.images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

impl Found {
    fn collect(&mut self, folder: &Path, relative: &Path, depth: usize) {
        let mut paths = Vec::new();
        let entries = std::fs::read_dir(folder).and_then(|entries| {
            entries
                .map(|e| Ok(e?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        });
        match entries {
            Ok(found) => paths.extend(found),
            Err(error) => self
                .unreadable
                .push(format!("{}: {error}", folder.display())),
        }
        paths.sort();
        let mut phases: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                if depth < DEEPEST {
                    let relative = relative.join(&*name);
                    self.collect(&path, &relative, depth + 1);
                }
                continue;
            }
            let lower = name.to_ascii_lowercase();
            let stem = lower
                .strip_suffix(".nii.gz")
                .or_else(|| lower.strip_suffix(".nii"));
            let Some(stem) = stem else { continue };
            match PHASES.iter().find(|p| stem == p.to_ascii_lowercase()) {
                Some(phase) => phases.entry(phase).or_default().push(path.clone()),
                None => self.others.push(path.clone()),
            }
        }
        if !phases.is_empty() {
            self.cases.push((relative.to_owned(), phases));
        }
    }
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
            "Vendor_B1/2-B1/T2.nii.gz",
            "Vendor_A/3/T1.nii.gz",
            "Vendor_B1/3/T1.nii.gz",
            "info.csv",
        ];
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let found = find(folder.path()).unwrap();
        let names: Vec<String> = found
            .images
            .iter()
            .map(|file| file.name.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "1-A/DWI_800_pred",
                "1-A/GED4_pred",
                "Vendor_A/3/T1_pred",
                "Vendor_B1/3/T1_pred",
            ]
        );
        let notes = found.notes.join("\n");
        assert!(notes.contains("GED1.nii.gz is passed over"), "{notes}");
        assert!(found.ambiguous[0].1.contains("T2.nii.gz are both T2"));
        let nothing = find(&folder.path().join("Vendor_A/none"))
            .unwrap_err()
            .to_string();
        assert!(nothing.contains("DWI_800"), "{nothing}");
    }
}
