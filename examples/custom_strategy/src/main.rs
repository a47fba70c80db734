//! A training strategy of one's own, on LiSeg's loader, trainer, checkpoints and prediction: entropy
//! minimisation (Grandvalet & Bengio 2005). On unlabelled patches the network is asked to be sure.
//!
//!     cargo run --release --package custom_strategy
//!
//! It trains, is interrupted, goes on where it was, and predicts. The package takes nothing from LiSeg's workspace and
//! depends on `liseg` alone, as a package of yours would.

use anyhow::{Result, ensure};
use liseg::data::{Dataset, Fingerprint, Plan, PlanOptions, PreprocessOptions, preprocess_dataset};
use liseg::engine::predict::{FolderOptions, Model, find_images, predict_cases};
use liseg::engine::{RunConfig, RunFolder, TrainOptions, TrainOutcome, train_own};
use liseg::nn::loss::DiceCrossEntropy;
use liseg::nn::tch::Kind;
use liseg::nn::{DeviceChoice, OptimiserConfig, Precision, SegmentationNet};
use liseg::phantom::{PhantomConfig, Phase, Resolution, write_nnunet};
use liseg::ssl::{Batch, BatchRequest, Learner, StepContext, Strategy, mean_within};

struct EntropyMinimisation {
    learners: [Learner; 1],
    weight: f64,
}

impl Strategy for EntropyMinimisation {
    fn name(&self) -> &'static str {
        "entropy-minimisation"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: 1,
            unlabelled: 1,
            ..BatchRequest::default()
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> liseg::ssl::Result<()> {
        let (labelled, unlabelled) = batch.both("entropy-minimisation")?;
        let network = self.learners[0].network();
        let logits = network.forward(&labelled.image)?;
        let loss = DiceCrossEntropy::default();
        let supervised = loss.terms(&logits, &labelled.target())?.total;
        context.record("supervised", &supervised, 1.0)?;
        context.backward(&supervised, 1.0)?;

        let log_p = network
            .forward(&unlabelled.image)?
            .f_log_softmax(1, Kind::Float)?;
        let of_classes = log_p.f_exp()?.f_mul(&log_p)?.f_neg()?;
        let of_voxels = of_classes.f_sum_dim_intlist(1, false, Kind::Float)?;
        // Patches at the border of a volume are padded: nothing is to be learnt there.
        let entropy = mean_within(&of_voxels, unlabelled.valid.as_ref())?;
        context.record("entropy", &entropy, 1.0)?;
        context.backward(&entropy, self.weight)
    }

    fn learners(&self) -> &[Learner] {
        &self.learners
    }

    fn learners_mut(&mut self) -> &mut [Learner] {
        &mut self.learners
    }

    fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)> {
        vec![self.learners[0].named()]
    }
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let phantom = PhantomConfig::default()
        .with_patients(3, 1, 1)
        .with_phases([Phase::Ged4])
        .with_resolution(Resolution::Tiny);
    write_nnunet(&phantom, at("dataset"))?;
    let dataset = Dataset::open(&at("dataset"))?;
    let max_patch_voxels = 16 * 32 * 32;
    let options = PlanOptions {
        max_patch_voxels,
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &options)?;
    let options = PreprocessOptions::default();
    preprocess_dataset(&dataset, &plan, &at("data"), &options, |_| {})?;

    let mut config = RunConfig::new(at("data"));
    config.network.widths = Some(vec![4, 8, 8, 16, 16, 16]);
    config.training.epochs = 2;
    config.training.iterations_per_epoch = 3;
    let train = |resume: bool, stop: &dyn Fn() -> bool| {
        let folder = at("run");
        train_own(
            &config,
            &TrainOptions { folder, resume },
            &mut |networks| {
                let network = networks("network")?;
                let learners = [Learner::new("network", network, OptimiserConfig::adamw())?];
                let weight = 0.1;
                Ok(Box::new(EntropyMinimisation { learners, weight }))
            },
            &mut |_| {},
            stop,
        )
    };
    let stopped = train(false, &|| true)?;
    ensure!(
        matches!(stopped, TrainOutcome::Stopped { .. }),
        "it went on: {stopped:?}"
    );
    println!("interrupted; going on");
    ensure!(train(true, &|| false)? == TrainOutcome::Finished);

    let run = RunFolder::open(&at("run"))?;
    let mut model = Model::of_run(&run, DeviceChoice::Auto.resolve()?, Precision::Auto)?;
    let images = find_images(&at("dataset/imagesTs"), None)?.images;
    let options = FolderOptions::default();
    let masks = predict_cases(&mut model, &images, &at("masks"), options, &mut |_| true)?;
    ensure!(masks.written.len() == images.len(), "a mask is missing");
    println!("{} mask written", masks.written.len());
    Ok(())
}
