//! `liseg predict`.

use super::failure::chain;
use super::memory_size::MemorySize;
use super::{Failure, Outcome, Result, Shared, interrupt, print_json, progress, say, terminal};
use liseg::engine::predict::{
    FolderOptions, FolderOutcome, ImageFile, Mean, MemoryPlan, Model, Part, Postprocessing,
    PredictEvent, Storage, Tta, find_images, gibibytes, predict_cases,
};
use liseg::nn::Precision;
use liseg::nn::tch::Device;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Segment images; masks come in the geometry of their images.
///
/// The next image loads and the last one is written while the networks work. How much memory that
/// takes is printed before it begins. Every mask gets its name once it is complete: after a kill,
/// --resume goes on with the rest.
#[derive(Debug, clap::Args)]
pub(crate) struct Predict {
    #[command(flatten)]
    model: ModelArguments,
    /// An image (`.nii`, `.nii.gz`, or a pair of `.hdr` and `.img`), a folder of images, a folder of patients
    /// such as LiQA's `Vendor/Patient/GED4.nii.gz`, or a cases.json. In folders, files that are called like
    /// masks (`mask_GED4`, `liver_seg`, `labelsTr/`) are passed over.
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Folder for the masks; each is named like its image, without nnU-Net's `_0000`.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Write each foreground class's probability as well.
    #[arg(long)]
    probabilities: bool,
    /// Write how unsure the networks are: maps of entropy and, with several networks such as those of
    /// CPS, of their disagreement; and uncertainty.csv, the most doubtful case first.
    #[arg(long)]
    uncertainty: bool,
    #[command(flatten)]
    cleaning: CleaningArguments,
    /// Skip images whose mask is there already.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace masks that are there already; without this and --resume they are an error.
    #[arg(long)]
    overwrite: bool,
    /// Only every N-th image, beginning with the I-th: run 1/4 to 4/4 on four machines.
    #[arg(long, value_name = "I/N")]
    part: Option<Part>,
    /// Largest memory the process may take, as in 3GiB or 800MB: it then loads, segments and writes in
    /// turn if need be, keeps sums in half precision, or says what would be needed.
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<MemorySize>,
}

/// Which networks predict, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArguments {
    /// A run made by `liseg train`, a checkpoint of one, or a bundle made by `liseg bundle`. Several (folds,
    /// seeds) answer together.
    #[arg(
        long = "model",
        visible_aliases = ["run", "weights"],
        value_name = "RUN|FILE",
        required = true
    )]
    models: Vec<PathBuf>,
    /// Test-time augmentation: none, mirror (all flips along the axes that training mirrored), or the axes to
    /// flip, as in x or yx; twice as long for each axis.
    #[arg(long, value_name = "AXES", default_value = "none")]
    tta: Tta,
    /// Flip along the axes of --tta even if training never did: masks usually get worse.
    #[arg(long)]
    force_tta: bool,
    /// How far the window moves, as a share of the patch.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.5,
        allow_negative_numbers = true
    )]
    step: f64,
    /// What is averaged over networks: probabilities or logits.
    #[arg(long, value_name = "WHAT", default_value = "probabilities")]
    mean: Mean,
    /// Tiles that go through a network at once; 1 on a CPU and 2 on a GPU when absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    batch: Option<u8>,
    /// Keep sums of tiles in half precision: half their memory.
    #[arg(long)]
    half_sums: bool,
    /// Find the liver first, with tiles that do not overlap, and segment only a box around it.
    #[arg(long)]
    coarse_to_fine: bool,
    /// A model that finds the liver in place of --model, such as one trained on coarser images.
    #[arg(long, value_name = "RUN|FILE", requires = "coarse_to_fine")]
    coarse_model: Option<PathBuf>,
    /// What the box has beyond the liver on every side, in mm.
    #[arg(
        long,
        value_name = "MM",
        default_value_t = 20.0,
        requires = "coarse_to_fine"
    )]
    margin: f64,
    /// Number format of activations: auto, f32, bf16, or fp16 on a GPU.
    #[arg(long, value_enum, default_value_t = PrecisionChoice::Auto)]
    precision: PrecisionChoice,
}

/// How masks are cleaned.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CleaningArguments {
    /// Keep only the largest connected component of each mask. This and the next two replace the
    /// post-processing that is stored with the model.
    #[arg(long)]
    keep_largest: bool,
    /// Fill cavities inside each mask.
    #[arg(long)]
    fill_holes: bool,
    /// Remove components smaller than this, in ml.
    #[arg(long, value_name = "ML", allow_negative_numbers = true)]
    minimum_volume: Option<f64>,
    /// Leave masks as the networks say, whatever is stored with the model.
    #[arg(long, conflicts_with_all = ["keep_largest", "fill_holes", "minimum_volume"])]
    no_postprocessing: bool,
}

impl CleaningArguments {
    /// Whether masks are wanted as the networks say.
    pub(crate) fn leaves_masks(&self) -> bool {
        self.no_postprocessing
    }

    pub(crate) fn apply(&self, model: &mut Model) {
        let chosen = self.keep_largest || self.fill_holes || self.minimum_volume.is_some();
        if chosen || self.no_postprocessing {
            model.postprocessing =
                Postprocessing::of(self.keep_largest, self.fill_holes, self.minimum_volume);
        }
    }
}

impl ModelArguments {
    /// Loads the networks.
    pub(crate) fn load(&self, shared: &Shared) -> Result<Model> {
        let device = shared.device.unwrap_or_default().resolve()?;
        let precision = match self.precision {
            PrecisionChoice::Auto => Precision::Auto,
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::Fp16 => Precision::Fp16,
        };
        progress::warn_of_emulation(precision, device);
        let open = |path: &PathBuf| Model::open(path, device, precision);
        let models = self.models.iter().map(open);
        let model = Model::ensemble(models.collect::<Result<_, _>>()?)?;
        let mut model = if self.force_tta {
            let mut model = model;
            *model.window_mut() = model.window().moving(self.step, self.tta)?;
            model
        } else {
            model.with_window(self.step, self.tta)?
        };
        let window = model.window_mut();
        window.mean = self.mean;
        window.batch = match (self.batch, device) {
            (Some(batch), _) => usize::from(batch),
            (None, Device::Cuda(_)) => 2,
            (None, _) => 1,
        };
        if self.half_sums {
            window.storage = Storage::F16;
        }
        if self.coarse_to_fine {
            let by = self.coarse_model.as_ref().map(open).transpose()?;
            model = model.coarse_to_fine(self.margin, by);
        }
        Ok(model)
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PrecisionChoice {
    Auto,
    F32,
    Bf16,
    Fp16,
}

impl Predict {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let found = find_images(&self.input, Some(&self.output))?;
        for note in &found.notes {
            progress::note(shared, None, &format!("note: {note}"));
        }
        if self
            .cleaning
            .minimum_volume
            .is_some_and(|ml| !(ml.is_finite() && ml >= 0.0))
        {
            return Err(Failure::usage("--minimum-volume: expected 0 ml or more"));
        }
        let mut model = self.model.load(shared)?;
        self.cleaning.apply(&mut model);
        let options = FolderOptions {
            resume: self.resume,
            overwrite: self.overwrite,
            part: self.part,
            probabilities: self.probabilities,
            uncertainty: self.uncertainty,
            max_memory: self.max_memory.map(|size| size.0),
        };
        let images = &found.images;
        let mut outcome = predict_with_progress(&mut model, images, &self.output, options, shared)?;
        for (_, error) in &found.refused {
            terminal::complain(&chain(error));
        }
        outcome.failed.extend(found.refused);
        report(&outcome, &self.output, shared);
        let complete = outcome.failed.is_empty() && !outcome.stopped;
        Ok(if complete {
            Outcome::Done
        } else {
            Outcome::Partly
        })
    }
}

/// Predicts with a bar that counts tiles and a line for every mask.
pub(crate) fn predict_with_progress(
    model: &mut Model,
    images: &[ImageFile],
    output: &Path,
    options: FolderOptions,
    shared: &Shared,
) -> Result<FolderOutcome> {
    interrupt::listen();
    let bar = progress::bar(shared, 0, "predicting");
    let count = options
        .part
        .map_or(images.len(), |part| part.of(images).len());
    // Images of different patients may be called alike.
    let name_of = |image: &Path| {
        let file = images.iter().find(|file| file.image == image);
        file.map_or(image, |file| file.name.as_path())
            .display()
            .to_string()
    };
    let mut hear = |event: PredictEvent<'_>| {
        match event {
            PredictEvent::Planned(plan) => {
                progress::note(shared, Some(&bar), &plan_line(plan));
                let free = liseg::nn::runtime::available_memory_bytes();
                if let Some(free) = free.filter(|free| plan.peak > plan.resident + free) {
                    tracing::warn!(
                        "only {} are free; --max-memory makes do with less",
                        gibibytes(free)
                    );
                }
            }
            PredictEvent::Started { image, index } => {
                bar.reset();
                bar.set_message(format!("{}/{count} {}", index + 1, name_of(image)));
            }
            PredictEvent::Tile { done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
            PredictEvent::Finished { result, .. } => {
                let s = result.seconds;
                let seconds = s.load + s.network + s.export + s.write;
                let mask = result.mask.strip_prefix(output).unwrap_or(&result.mask);
                let name = mask.display();
                let mut line = format!("{name}: {:.0} ml in {seconds:.1} s", result.foreground_ml);
                if !result.alarm.is_empty() {
                    line += &format!("; nothing was found: {}", result.alarm.join("; "));
                } else if !result.remarks.is_empty() {
                    line += &format!("; look at it: {}", result.remarks.join("; "));
                }
                progress::note(shared, Some(&bar), &line);
            }
            PredictEvent::Skipped { image } => {
                progress::note(
                    shared,
                    Some(&bar),
                    &format!("{}: done before", name_of(image)),
                );
            }
            PredictEvent::Failed { image, error } => {
                terminal::complain(&format!("{}: {}", name_of(image), chain(error)));
            }
        }
        !interrupt::asked()
    };
    let outcome = predict_cases(model, images, output, options, &mut hear);
    bar.finish_and_clear();
    Ok(outcome?)
}

/// What will be done, in a line.
fn plan_line(plan: &MemoryPlan) -> String {
    let way = if plan.together {
        "loading, segmenting and writing at once"
    } else {
        "one stage at a time"
    };
    let half = match plan.storage {
        Storage::F32 => "",
        Storage::F16 => ", sums in half precision",
    };
    format!(
        "memory: at most about {} ({} of it held already), {way}{half}",
        gibibytes(plan.peak),
        gibibytes(plan.resident)
    )
}

fn report(outcome: &FolderOutcome, output: &Path, shared: &Shared) {
    if shared.json {
        let failed: Vec<_> = outcome
            .failed
            .iter()
            .map(|(image, error)| json!({"image": image, "reason": chain(error)}))
            .collect();
        print_json(&json!({
            "written": outcome.written,
            "skipped": outcome.skipped,
            "empty": outcome.empty,
            "failed": failed,
            "stopped": outcome.stopped,
            "seconds": outcome.seconds,
            "memory": outcome.memory.map(|plan| json!({
                "predicted_peak": plan.peak,
                "resident": plan.resident,
                "together": plan.together,
            })),
            "peak_memory": liseg::nn::runtime::peak_memory_bytes(),
        }));
        return;
    }
    say!(
        "{} masks written to {}, {} skipped, {} without foreground, {} failed{}",
        outcome.written.len(),
        output.display(),
        outcome.skipped.len(),
        outcome.empty.len(),
        outcome.failed.len(),
        if outcome.stopped {
            "; stopped early, go on with --resume"
        } else {
            ""
        }
    );
    let s = outcome.seconds;
    if !outcome.written.is_empty() && !shared.quiet {
        let [load, network, export, write] =
            [s.load, s.network, s.export, s.write].map(|seconds| format!("{seconds:.1} s"));
        let line =
            format!("loading {load}, networks {network}, sums and masks {export}, writing {write}");
        progress::note(shared, None, &line);
    }
}
