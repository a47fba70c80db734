//! Predicting many files: the next one loads and the last one is written while the networks work.

use super::finish::{Facts, Segmented};
use super::inputs::ImageFile;
use super::memory::{FileSize, MemoryPlan, choose, fits, worst};
use super::outputs::{self, Written};
use super::prepare::Prepared;
use super::uncertainty::UncertaintyScores;
use super::{Model, Outputs, Part, Prediction, records};
use crate::{Error, Result};
use liseg_data::{Plan, check_extent};
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
    /// What is odd about the image, or was not met in training.
    #[serde(default)]
    pub remarks: Vec<String>,
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
    /// Skip images whose mask is there already. Its maps and scores must be there, too, when they are asked
    /// for: an image without them fails.
    pub resume: bool,
    /// Replace masks and maps that are there already; without this and `resume` they are an error.
    /// Images are never replaced.
    pub overwrite: bool,
    /// The share of the images to predict; all of them when absent.
    pub part: Option<Part>,
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
/// When the output folder cannot be made, a file would replace an image, two images would write one
/// file, or a file is there already; all images count in this, whatever the part. [`Error::Full`] as soon as nothing more can
/// be written. An image that cannot be read,
/// shows something larger than a body, or does not fit into memory fails by itself.
pub fn predict_cases(
    model: &mut Model,
    images: &[ImageFile],
    output: &Path,
    options: FolderOptions,
    on_event: &mut dyn FnMut(PredictEvent<'_>) -> bool,
) -> Result<FolderOutcome> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let written = Written::of(model, options);
    outputs::check(images, output, written, options)?;
    let mut work = Work {
        outcome: FolderOutcome::default(),
        on_event,
        stop: AtomicBool::new(false),
        output,
        full: None,
    };
    let part = match options.part {
        Some(part) => part.of(images),
        None => images.iter().collect(),
    };
    let mut todo = Vec::new();
    for (index, file) in part.into_iter().enumerate() {
        if options.resume && outputs::mask_file(file, output).is_file() {
            work.skip(file, written);
        } else {
            todo.push((index, file));
        }
    }
    if !todo.is_empty() {
        work_off(model, &todo, options, &mut work);
    }
    if let Some(error) = work.full {
        return Err(Error::Full {
            done: work.outcome.written.len(),
            source: Box::new(error),
        });
    }
    if options.uncertainty {
        records::write_csv(output)?;
    }
    work.outcome.stopped = work.stop.load(Ordering::Relaxed);
    Ok(work.outcome)
}

/// Predicts what is left to do.
fn work_off(
    model: &mut Model,
    todo: &[(usize, &ImageFile)],
    options: FolderOptions,
    work: &mut Work<'_>,
) {
    let (todo, plan) = plan_memory(model, todo, options, work);
    let Some(plan) = plan else { return };
    work.tell(PredictEvent::Planned(&plan));
    work.outcome.memory = Some(plan);
    if plan.together {
        side_by_side(model, &todo, options, work);
    } else {
        one_by_one(model, &todo, options, work);
    }
}

/// Reads every header and chooses how to work. Images that cannot be worked on at all fail at once, the
/// others are returned; the plan is `None` when there are none.
fn plan_memory<'a>(
    model: &mut Model,
    todo: &[(usize, &'a ImageFile)],
    options: FolderOptions,
    work: &mut Work<'_>,
) -> (Vec<(usize, &'a ImageFile)>, Option<MemoryPlan>) {
    liseg_nn::runtime::release_free_memory();
    let resident = liseg_nn::runtime::resident_memory_bytes().unwrap_or(0);
    let before = liseg_nn::runtime::peak_memory_bytes().unwrap_or(resident);
    let limit = options.max_memory.or_else(|| {
        let free = liseg_nn::runtime::available_memory_bytes()?;
        Some(free.saturating_add(resident))
    });
    let window = model.window().clone();
    let smallest = window.smallest();
    let (mut possible, mut sizes) = (Vec::new(), Vec::new());
    for &(index, file) in todo {
        let size = size_of(&file.image).and_then(|size| {
            let least = model
                .memory(size, options.outputs(), &smallest)
                .one_by_one();
            fits(
                resident.saturating_add(least),
                limit,
                options.max_memory.is_some(),
            )?;
            Ok(size)
        });
        match size {
            Ok(size) => {
                possible.push((index, file));
                sizes.push(size);
            }
            Err(error) => work.fail(&file.image, error),
        }
    }
    if possible.is_empty() {
        return (possible, None);
    }
    let mut window = window;
    let estimate = |window: &super::SlidingWindow| {
        worst(
            sizes
                .iter()
                .map(|&size| model.memory(size, options.outputs(), window)),
        )
    };
    let plan = choose(
        &mut window,
        possible.len(),
        (resident, before),
        options.max_memory,
        &estimate,
    );
    *model.window_mut() = window;
    (possible, Some(plan))
}

/// What is known of an image before it is read.
///
/// # Errors
/// Those of reading the header, and of a size that no scanner makes.
fn size_of(image: &Path) -> Result<FileSize> {
    let header = nifti::read_header(image)?;
    check_extent(image, &header)?;
    let bytes = std::fs::metadata(image).map_err(Error::io(image))?.len();
    Ok(FileSize {
        geometry: header.geometry(),
        bytes,
    })
}

/// What all stages report to; only the thread of the networks has it.
struct Work<'a> {
    outcome: FolderOutcome,
    on_event: &'a mut dyn FnMut(PredictEvent<'_>) -> bool,
    stop: AtomicBool,
    output: &'a Path,
    /// Why nothing more can be written.
    full: Option<Error>,
}

impl Work<'_> {
    /// Passes an event on; false once the work is to stop.
    fn tell(&mut self, event: PredictEvent<'_>) -> bool {
        if !(self.on_event)(event) {
            self.stop.store(true, Ordering::Relaxed);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// Passes over an image whose mask is there, unless something else of it is missing.
    fn skip(&mut self, file: &ImageFile, written: Written) {
        let image = &file.image;
        let mut owed = written.files(file, self.output);
        if written.entropy {
            owed.push(records::score_file(&file.name, self.output));
        }
        match owed.into_iter().find(|path| !path.exists()) {
            None => {
                self.tell(PredictEvent::Skipped { image });
                self.outcome.skipped.push(image.clone());
            }
            Some(path) => {
                let reason = "is missing though the mask is there: it was made without it; replace both with \
                              overwrite (--overwrite)";
                let reason = reason.to_owned();
                self.fail(image, Error::Run { path, reason });
            }
        }
    }

    fn fail(&mut self, image: &Path, error: Error) {
        if liseg_file::is_full(&error) {
            self.stop.store(true, Ordering::Relaxed);
            self.full.get_or_insert(error);
            return;
        }
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
    let mask = outputs::mask_file(file, output);
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
        remarks,
        alarm,
        ..
    } = prediction;
    let like = Some(&done.header);
    for (class, map) in probabilities.iter().enumerate() {
        nifti::write_image(
            outputs::probability_file(file, output, class + 1),
            map,
            like,
        )?;
    }
    if let Some(map) = entropy {
        nifti::write_image(outputs::entropy_file(file, output), &map, like)?;
    }
    if let Some(map) = disagreement {
        nifti::write_image(outputs::disagreement_file(file, output), &map, like)?;
    }
    if let Some(scores) = scores {
        records::write_scores(&file.name, output, foreground_ml, scores)?;
    }
    nifti::write_labels(&mask, &labels, like)?;
    Ok(CaseRecord {
        mask,
        foreground_ml,
        remarks,
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
