//! `liseg predict`.

use super::failure::chain;
use super::{Failure, Outcome, Result, Shared, interrupt, print_json, progress};
use liseg::engine::RunFolder;
use liseg::engine::predict::{
    FolderOptions, FolderOutcome, Model, PredictEvent, Tta, image_files, predict_files,
};
use liseg::nn::Precision;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Segment images; masks come in the geometry of their images.
#[derive(Debug, clap::Args)]
pub(crate) struct Predict {
    /// A run made by `liseg train`; its best weights are used, else its last.
    #[arg(
        long,
        value_name = "RUN",
        required_unless_present = "weights",
        conflicts_with = "weights"
    )]
    run: Option<PathBuf>,
    /// A checkpoint file of a run.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// An image, or a folder of images (`.nii`, `.nii.gz`).
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Folder for the masks; each is named like its image, without nnU-Net's `_0000`.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Test-time augmentation: `mirror` averages over all flips and takes eight times as long.
    #[arg(long, value_enum, default_value_t = TtaChoice::None)]
    tta: TtaChoice,
    /// How far the window moves, as a share of the patch.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    step: f64,
    /// Write each class's probability as well.
    #[arg(long)]
    probabilities: bool,
    /// Keep only the largest connected component of each mask.
    #[arg(long)]
    keep_largest: bool,
    /// Fill cavities inside each mask.
    #[arg(long)]
    fill_holes: bool,
    /// Skip images whose mask is there already.
    #[arg(long)]
    resume: bool,
    /// Only every N-th image, beginning with the I-th: run 1/4 to 4/4 on four machines.
    #[arg(long, value_name = "I/N")]
    part: Option<Part>,
    /// Number format of activations: auto, f32 or bf16.
    #[arg(long, value_enum, default_value_t = PrecisionChoice::Auto)]
    precision: PrecisionChoice,
}

/// One machine's share of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// From 1.
    index: usize,
    count: usize,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            _ => Err("expected I/N with 1 ≤ I ≤ N, as in 2/4".to_owned()),
        }
    }
}

impl Part {
    /// The images of this part; all parts together are all images, each once.
    fn of(self, images: Vec<PathBuf>) -> Vec<PathBuf> {
        let first = self.index - 1;
        images.into_iter().skip(first).step_by(self.count).collect()
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TtaChoice {
    None,
    Mirror,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PrecisionChoice {
    Auto,
    F32,
    Bf16,
}

impl Predict {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let mut images = image_files(&self.input)?;
        if let Some(part) = self.part {
            images = part.of(images);
        }
        let device = shared.device.unwrap_or_default().resolve()?;
        let precision = match self.precision {
            PrecisionChoice::Auto => Precision::Auto,
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
        };
        let model = match (&self.run, &self.weights) {
            (Some(run), _) => Model::of_run(&RunFolder::open(run)?, device, precision)?,
            (None, Some(file)) => Model::load(file, device, precision)?,
            (None, None) => return Err(Failure::usage("give --run or --weights")),
        };
        let tta = match self.tta {
            TtaChoice::None => Tta::None,
            TtaChoice::Mirror => Tta::Mirror,
        };
        let mut model = model.with_window(self.step, tta)?;
        model.postprocessing.keep_largest = self.keep_largest;
        model.postprocessing.fill_holes = self.fill_holes;
        let options = FolderOptions {
            resume: self.resume,
            probabilities: self.probabilities,
        };
        let outcome = predict_with_progress(&model, &images, &self.output, options, shared)?;
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
    model: &Model,
    images: &[PathBuf],
    output: &Path,
    options: FolderOptions,
    shared: &Shared,
) -> Result<FolderOutcome> {
    interrupt::listen();
    let bar = progress::bar(shared, 0, "predicting");
    let count = images.len();
    let mut hear = |event: PredictEvent<'_>| {
        match event {
            PredictEvent::Started { image, index } => {
                bar.reset();
                bar.set_message(format!("{}/{count} {}", index + 1, file_name(image)));
            }
            PredictEvent::Tile { done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
            PredictEvent::Finished {
                mask,
                foreground_ml,
                seconds,
                ..
            } => {
                let name = file_name(mask);
                let mut line = format!("{name}: {foreground_ml:.0} ml in {seconds:.1} s");
                if foreground_ml == 0.0 {
                    line += "; nothing was found: is the orientation in the header right, and is \
                             this the kind of image the model was trained on?";
                }
                progress::note(shared, Some(&bar), &line);
            }
            PredictEvent::Skipped { image } => {
                progress::note(
                    shared,
                    Some(&bar),
                    &format!("{}: done before", file_name(image)),
                );
            }
            PredictEvent::Failed { image, error } => {
                bar.suspend(|| eprintln!("liseg: {}: {}", file_name(image), chain(error)));
            }
        }
        !interrupt::asked()
    };
    let outcome = predict_files(model, images, output, options, &mut hear);
    bar.finish_and_clear();
    Ok(outcome?)
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
        }));
        return;
    }
    println!(
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
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_out_every_image_once() {
        let images: Vec<PathBuf> = (0..10).map(|i| format!("{i}").into()).collect();
        for count in 1..=12 {
            let mut together: Vec<PathBuf> = (1..=count)
                .flat_map(|index| Part { index, count }.of(images.clone()))
                .collect();
            together.sort();
            assert_eq!(together, images, "{count} parts");
        }
        assert_eq!("2/4".parse(), Ok(Part { index: 2, count: 4 }));
        for wrong in ["0/4", "5/4", "2", "a/b", "1/0", ""] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
