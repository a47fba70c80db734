//! What the trainer gives to a strategy is what it asked for.

use crate::common::preprocessed;
use liseg::data::CaseStore;
use liseg::engine::{RunConfig, TrainOptions, TrainOutcome, train_own};
use liseg::nn::tch::Tensor;
use liseg::nn::{OptimiserConfig, Precision, SegmentationNet};
use liseg::ssl::{Batch, BatchRequest, Learner, StepContext, Strategy};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The largest voxel of each kind of patch in a step.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    labelled: f64,
    weak: f64,
    strong: [f64; 2],
}

/// Learns from labels and writes down what it was given.
struct Recorder {
    learners: [Learner; 1],
    request: BatchRequest,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn largest(image: &Tensor) -> f64 {
    image.max().double_value(&[])
}

impl Strategy for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn request(&self) -> BatchRequest {
        self.request
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> liseg::ssl::Result<()> {
        let (labelled, unlabelled) = batch.both("recorder")?;
        assert_eq!(labelled.image.size(), [3, 1, 16, 32, 32]);
        assert_eq!(labelled.label.size(), [3, 16, 32, 32]);
        assert_eq!(unlabelled.image.size(), [2, 1, 16, 32, 32]);
        assert_eq!(unlabelled.strong.len(), self.request.strong_views);
        let strong = |view: usize| unlabelled.strong.get(view).map_or(0.0, largest);
        self.seen.lock().unwrap().push(Seen {
            labelled: largest(&labelled.image),
            weak: largest(&unlabelled.image),
            strong: [strong(0), strong(1)],
        });
        assert!(
            unlabelled
                .strong
                .iter()
                .all(|view| view.size() == unlabelled.image.size())
        );
        let loss = self.learners[0]
            .network()
            .forward(&labelled.image)?
            .square()
            .mean(None);
        context.backward(&loss, 1.0)
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

/// What a strategy with this request is given in twelve steps, under transforms of intensity alone.
fn given(folder: &Path, name: &str, request: BatchRequest) -> Vec<Seen> {
    let mut config = RunConfig::new(folder.join("data"));
    config.precision = Precision::F32;
    config.network.widths = Some(vec![2; 6]);
    config.training.epochs = 1;
    config.training.iterations_per_epoch = 12;
    config.augment = toml::from_str("preset = \"intensity\"\nmirror_axes = []").unwrap();
    let options = TrainOptions {
        folder: folder.join(name),
        resume: false,
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let outcome = train_own(
        &config,
        &options,
        &mut |networks| {
            Ok(Box::new(Recorder {
                learners: [Learner::new(
                    "network",
                    networks("network")?,
                    OptimiserConfig::adam(),
                )?],
                request,
                seen: Arc::clone(&seen),
            }))
        },
        &mut |_| {},
        &|| false,
    );
    assert_eq!(outcome.unwrap(), TrainOutcome::Finished);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 12);
    seen.clone()
}

/// Transforms of intensity leave patches brighter than any stored voxel, sooner or later; weak views never are.
#[test]
fn a_strategy_gets_the_patches_that_it_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    preprocessed(folder.path());
    let store = CaseStore::open(&folder.path().join("data")).unwrap();
    let voxels = store
        .cases()
        .iter()
        .map(|case| case.image().iter().copied().fold(0.0, f32::max));
    let brightest = f64::from(voxels.fold(0.0, f32::max)) + 1e-5;
    let is_changed =
        |seen: &[Seen], of: &dyn Fn(&Seen) -> f64| seen.iter().any(|s| of(s) > brightest);
    let request = BatchRequest {
        labelled: 3,
        unlabelled: 2,
        strong_views: 2,
        weak_labelled: true,
    };

    let weak = given(folder.path(), "weak", request);
    assert!(
        !is_changed(&weak, &|s| s.labelled) && !is_changed(&weak, &|s| s.weak),
        "{weak:?}"
    );
    assert!(
        is_changed(&weak, &|s| s.strong[0]) && is_changed(&weak, &|s| s.strong[1]),
        "{weak:?}"
    );
    assert!(
        weak.iter().any(|s| s.strong[0] > s.strong[1]),
        "both views are one: {weak:?}"
    );

    let weak_labelled = false;
    let usual = given(
        folder.path(),
        "usual",
        BatchRequest {
            weak_labelled,
            ..request
        },
    );
    assert!(
        is_changed(&usual, &|s| s.labelled) && !is_changed(&usual, &|s| s.weak),
        "{usual:?}"
    );

    // Without strong views unlabelled patches are changed as labelled ones are.
    let strong_views = 0;
    let alike = BatchRequest {
        strong_views,
        weak_labelled,
        ..request
    };
    let alike = given(folder.path(), "alike", alike);
    assert!(is_changed(&alike, &|s| s.weak), "{alike:?}");
}
