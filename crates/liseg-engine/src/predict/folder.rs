//! Predicting many files: the next one loads and the last one is written while the networks work.

use super::finish::{Facts, Segmented};
use super::inputs::{ImageFile, mask_name};
use super::memory::{FileSize, MemoryPlan, choose, worst};
use super::prepare::Prepared;
use super::uncertainty::UncertaintyScores;
use super::{Model, Outputs, Prediction, records};
use crate::{Error, Result};
use liseg_data::Plan;
use liseg_mri::nifti::{self, Header, Warning};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Instant;

/// Seconds that a file spent in each stage. With stages at once they overlap those of other files.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct StageSeconds {
    /// Reading and bringing to the plan's grid.
    pub load: f64,
    /// In the networks.
    pub network: f64,
    /// Cutting and summing tiles, resampling, deciding.
    pub export: f64,
    /// Cleaning, compressing, writing.
    pub write: f64,
}

/// What happened to one file.
#[derive(Debug)]
pub enum PredictEvent<'a> {
    /// How the work will be done, and what memory it takes; before anything else.
    Planned(&'a MemoryPlan),
    /// The networks begin with a file.
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
        /// What was written.
        result: &'a CaseRecord,
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

/// What is known about a mask once it is written.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CaseRecord {
    /// The mask.
    pub mask: PathBuf,
    /// Foreground in millilitres.
    pub foreground_ml: f64,
    /// Likely causes when nothing was found; else empty.
    pub alarm: Vec<String>,
    /// How unsure the prediction is, when asked for.
    pub uncertainty: Option<UncertaintyScores>,
    /// Seconds by stage.
    pub seconds: StageSeconds,
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
    /// Seconds by stage, summed over files.
    pub seconds: StageSeconds,
    /// How the work was done; `None` when there was nothing to do.
    pub memory: Option<MemoryPlan>,
}

/// How a folder is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FolderOptions {
    /// Skip images whose mask is there already.
    pub resume: bool,
    /// Write each foreground class's probability beside the mask as `<case>_probability_<class>.nii.gz`.
    pub probabilities: bool,
    /// Write `<case>_entropy.nii.gz` and, with several networks, `<case>_disagreement.nii.gz`, and the
    /// scores of all cases as `uncertainty.csv`.
    pub uncertainty: bool,
    /// The largest memory that the process may take, in bytes.
    pub max_memory: Option<u64>,
}

impl FolderOptions {
    fn outputs(self) -> Outputs {
        Outputs {
            probabilities: self.probabilities,
            uncertainty: self.uncertainty,
        }
    }
}

/// The file name without `.nii` or `.nii.gz`; `None` for other files and for hidden ones.
pub(crate) fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let ending = [".nii.gz", ".nii"]
        .into_iter()
        .find(|e| lower.ends_with(e))?;
    let stem = name.get(..name.len() - ending.len())?;
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

/// [`predict_cases`] of images whose masks are named like them, without nnU-Net's `_0000`.
///
/// # Errors
/// As [`predict_cases`].
pub fn predict_files(
    model: &mut Model,
    images: &[PathBuf],
    output: &Path,
    options: FolderOptions,
    on_event: &mut dyn FnMut(PredictEvent<'_>) -> bool,
) -> Result<FolderOutcome> {
    let files: Vec<ImageFile> = images
        .iter()
        .map(|image| ImageFile {
            image: image.clone(),
            name: mask_name(image),
            phase: None,
        })
        .collect();
    predict_cases(model, &files, output, options, on_event)
}

/// Predicts images and writes each mask, in the geometry of its image, as soon as it is known. A
/// file that fails is reported and does not stop the others.
///
/// Three stages work at once, each on another file: loading, segmenting, writing. At most one file
/// waits between two of them. Where memory is short they take turns (see [`MemoryPlan`]). A mask gets
/// its name when everything else of its case is written and the mask itself is complete: whatever
/// ends the process, a mask that is there is whole, and `resume` goes on from there.
///
/// `on_event` hears of everything and stops the work by returning false.
///
/// # Errors
/// When the output folder cannot be made, two images would write the same mask, or there is too
/// little memory for the largest image.
pub fn predict_cases(
    model: &mut Model,
    images: &[ImageFile],
    output: &Path,
    options: FolderOptions,
    on_event: &mut dyn FnMut(PredictEvent<'_>) -> bool,
) -> Result<FolderOutcome> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    refuse_clashes(images, output)?;
    let mut work = Work {
        outcome: FolderOutcome::default(),
        on_event,
        stop: AtomicBool::new(false),
        output,
    };
    let mut todo = Vec::new();
    for (index, file) in images.iter().enumerate() {
        if options.resume && mask_file(file, output).is_file() {
            (work.on_event)(PredictEvent::Skipped { image: &file.image });
            work.outcome.skipped.push(file.image.clone());
        } else {
            todo.push((index, file));
        }
    }
    if todo.is_empty() {
        return Ok(work.outcome);
    }
    let plan = plan_memory(model, &todo, options)?;
    work.tell(PredictEvent::Planned(&plan));
    work.outcome.memory = Some(plan);
    if plan.together {
        side_by_side(model, &todo, options, &mut work);
    } else {
        one_by_one(model, &todo, options, &mut work);
    }
    if options.uncertainty {
        records::write_csv(output)?;
    }
    work.outcome.stopped = work.stop.load(Ordering::Relaxed);
    Ok(work.outcome)
}

/// Reads every header, and chooses how to work. Files that cannot be read fail later.
fn plan_memory(
    model: &mut Model,
    todo: &[(usize, &ImageFile)],
    options: FolderOptions,
) -> Result<MemoryPlan> {
    let sizes: Vec<FileSize> = todo
        .iter()
        .filter_map(|(_, file)| {
            let geometry = nifti::read_header(&file.image).ok()?.geometry();
            let bytes = std::fs::metadata(&file.image).map_or(0, |m| m.len());
            Some(FileSize { geometry, bytes })
        })
        .collect();
    liseg_nn::runtime::release_free_memory();
    let resident = liseg_nn::runtime::resident_memory_bytes().unwrap_or(0);
    let before = liseg_nn::runtime::peak_memory_bytes().unwrap_or(resident);
    let mut window = model.window().clone();
    let estimate = |window: &super::SlidingWindow| {
        worst(
            sizes
                .iter()
                .map(|&size| model.memory(size, options.outputs(), window)),
        )
    };
    let plan = choose(
        &mut window,
        todo.len(),
        (resident, before),
        options.max_memory,
        &estimate,
    )?;
    *model.window_mut() = window;
    Ok(plan)
}

/// Where the mask of an image goes.
pub(super) fn mask_file(file: &ImageFile, output: &Path) -> PathBuf {
    beside(file, output, "")
}

/// The file `<name><suffix>.nii.gz` of a case; names may have dots in them.
fn beside(file: &ImageFile, output: &Path, suffix: &str) -> PathBuf {
    let name = file.name.file_name().unwrap_or_default().to_string_lossy();
    output
        .join(&file.name)
        .with_file_name(format!("{name}{suffix}.nii.gz"))
}

fn refuse_clashes(images: &[ImageFile], output: &Path) -> Result<()> {
    let mut seen = std::collections::HashMap::new();
    for file in images {
        let mask = mask_file(file, output);
        if same_file(&mask, &file.image) {
            let reason = "the mask would overwrite the image; choose another output folder".into();
            return Err(Error::Run {
                path: file.image.clone(),
                reason,
            });
        }
        if let Some(first) = seen.insert(mask.clone(), &file.image) {
            let reason = format!(
                "{} and {} would both be written here",
                first.display(),
                file.image.display()
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

/// What all stages report to; only the thread of the networks has it.
struct Work<'a> {
    outcome: FolderOutcome,
    on_event: &'a mut dyn FnMut(PredictEvent<'_>) -> bool,
    stop: AtomicBool,
    output: &'a Path,
}

impl Work<'_> {
    /// Passes an event on; false once the work is to stop.
    fn tell(&mut self, event: PredictEvent<'_>) -> bool {
        if !(self.on_event)(event) {
            self.stop.store(true, Ordering::Relaxed);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn fail(&mut self, image: &Path, error: Error) {
        self.tell(PredictEvent::Failed {
            image,
            error: &error,
        });
        self.outcome.failed.push((image.to_owned(), error));
    }

    fn take(&mut self, image: &Path, written: Result<CaseRecord>) {
        match written {
            Err(error) => self.fail(image, error),
            Ok(result) => {
                self.tell(PredictEvent::Finished {
                    image,
                    result: &result,
                });
                let (sum, s) = (&mut self.outcome.seconds, result.seconds);
                sum.load += s.load;
                sum.network += s.network;
                sum.export += s.export;
                sum.write += s.write;
                if result.foreground_ml <= 0.0 {
                    self.outcome.empty.push(result.mask.clone());
                }
                self.outcome.written.push(result.mask);
            }
        }
    }
}

/// A file that is read and prepared.
struct Loaded {
    header: Header,
    warnings: Vec<Warning>,
    prepared: Prepared,
    seconds: f64,
}

fn load(file: &ImageFile, plans: &[Plan]) -> Result<Loaded> {
    let clock = Instant::now();
    let nifti::Nifti {
        volume,
        header,
        warnings,
    } = nifti::read_image(&file.image)?;
    let prepared = Prepared::new(volume, file.phase.as_deref(), plans)?;
    Ok(Loaded {
        header,
        warnings,
        prepared,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// A file that the networks have seen.
struct ToWrite {
    segmented: Segmented,
    header: Header,
    warnings: Vec<Warning>,
    load_seconds: f64,
}

/// Runs the networks; `None` when the work is to stop.
fn segment(
    model: &Model,
    (index, file): (usize, &ImageFile),
    loaded: Loaded,
    options: FolderOptions,
    work: &mut Work<'_>,
) -> Result<Option<ToWrite>> {
    let image = &file.image;
    if !work.tell(PredictEvent::Started { image, index }) {
        return Ok(None);
    }
    let mut on_tile = |done, total| work.tell(PredictEvent::Tile { done, total });
    let segmented = model.segment(loaded.prepared, options.outputs(), &mut on_tile)?;
    Ok(segmented.map(|segmented| ToWrite {
        segmented,
        header: loaded.header,
        warnings: loaded.warnings,
        load_seconds: loaded.seconds,
    }))
}

/// Cleans, turns back and writes; the mask last.
fn write(file: &ImageFile, done: ToWrite, output: &Path, facts: &Facts) -> Result<CaseRecord> {
    let clock = Instant::now();
    let (network, export) = (
        done.segmented.network_seconds,
        done.segmented.export_seconds,
    );
    let prediction = done
        .segmented
        .finish(facts, &done.warnings, file.phase.as_deref())?;
    let mask = mask_file(file, output);
    if let Some(folder) = mask.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let Prediction {
        labels,
        probabilities,
        entropy,
        disagreement,
        scores,
        foreground_ml,
        alarm,
        ..
    } = prediction;
    let like = Some(&done.header);
    for (class, map) in probabilities.iter().enumerate() {
        let path = beside(file, output, &format!("_probability_{}", class + 1));
        nifti::write_image(path, map, like)?;
    }
    for (name, map) in [("_entropy", entropy), ("_disagreement", disagreement)] {
        if let Some(map) = map {
            nifti::write_image(beside(file, output, name), &map, like)?;
        }
    }
    if let Some(scores) = scores {
        records::write_scores(&file.name, output, foreground_ml, scores)?;
    }
    nifti::write_labels(&mask, &labels, like)?;
    Ok(CaseRecord {
        mask,
        foreground_ml,
        alarm,
        uncertainty: scores,
        seconds: StageSeconds {
            load: done.load_seconds,
            network,
            export,
            write: clock.elapsed().as_secs_f64(),
        },
    })
}

fn one_by_one(
    model: &Model,
    todo: &[(usize, &ImageFile)],
    options: FolderOptions,
    work: &mut Work<'_>,
) {
    let (plans, facts) = (model.plans(), model.facts());
    for &(index, file) in todo {
        let segmented = load(file, &plans)
            .and_then(|loaded| segment(model, (index, file), loaded, options, work));
        // No stage is to hold what another one keeps for reuse.
        liseg_nn::runtime::release_free_memory();
        match segmented {
            Ok(Some(done)) => {
                let written = write(file, done, work.output, &facts);
                work.take(&file.image, written);
            }
            Ok(None) => break,
            Err(error) => work.fail(&file.image, error),
        }
        if work.stop.load(Ordering::Relaxed) {
            break;
        }
    }
}

fn side_by_side(
    model: &Model,
    todo: &[(usize, &ImageFile)],
    options: FolderOptions,
    work: &mut Work<'_>,
) {
    let (plans, facts) = (model.plans(), model.facts());
    let output = work.output;
    std::thread::scope(|scope| {
        // Channels without room: a stage waits until the next one takes what it has.
        let (to_segment, loaded) = sync_channel(0);
        let (to_write, segmented) = sync_channel::<(&ImageFile, ToWrite)>(0);
        let (to_report, written) = channel();
        scope.spawn(move || {
            for &(index, file) in todo {
                let result = load(file, &plans);
                // Nobody takes it: the work was stopped.
                if to_segment.send((index, file, result)).is_err() {
                    break;
                }
            }
        });
        scope.spawn(move || {
            for (file, done) in segmented {
                let result = write(file, done, output, &facts);
                if to_report.send((file, result)).is_err() {
                    break;
                }
            }
        });
        let report = |work: &mut Work<'_>, written: &Receiver<(&ImageFile, Result<CaseRecord>)>| {
            while let Ok((file, result)) = written.try_recv() {
                work.take(&file.image, result);
            }
        };
        for (index, file, result) in &loaded {
            let done =
                result.and_then(|loaded| segment(model, (index, file), loaded, options, work));
            match done {
                Ok(Some(done)) => {
                    if to_write.send((file, done)).is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => work.fail(&file.image, error),
            }
            report(work, &written);
            if work.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        drop(loaded);
        drop(to_write);
        for (file, result) in written {
            work.take(&file.image, result);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(image: &str) -> ImageFile {
        ImageFile {
            image: image.into(),
            name: mask_name(Path::new(image)),
            phase: None,
        }
    }

    #[test]
    fn masks_are_named_like_their_images() {
        let name = |image: &str| mask_file(&file(image), Path::new("out"));
        assert_eq!(
            name("in/case_01_0000.nii.gz"),
            Path::new("out/case_01.nii.gz")
        );
        assert_eq!(name("in/case.v1.2.nii"), Path::new("out/case.v1.2.nii.gz"));
        assert_eq!(name("GED4.NII.GZ"), Path::new("out/GED4.nii.gz"));
        assert_eq!(stem(Path::new("a/notes.txt")), None);
        assert_eq!(stem(Path::new("a/.nii.gz")), None);
        let deep = ImageFile {
            name: "A/1-A/GED4".into(),
            ..file("x.nii")
        };
        assert_eq!(
            beside(&deep, Path::new("out"), "_entropy"),
            Path::new("out/A/1-A/GED4_entropy.nii.gz")
        );
    }

    #[test]
    fn two_images_never_share_a_mask() {
        let images = [file("a/x.nii"), file("a/x_0000.nii.gz")];
        assert!(refuse_clashes(&images, Path::new("out")).is_err());
        assert!(refuse_clashes(&images[..1], Path::new("out")).is_ok());
    }
}
