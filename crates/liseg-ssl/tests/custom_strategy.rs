//! A strategy written outside the crate: supervised training, and on unlabelled patches the network
//! is asked to be sure of itself (entropy minimisation, Grandvalet & Bengio 2005).

use liseg_nn::loss::{DiceCrossEntropy, Target};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, Precision, SegmentationNet};
use liseg_ssl::{
    Batch, BatchRequest, Error, Labelled, Learner, Progress, Result, StepContext, Strategy,
    Unlabelled,
};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::Seed;

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

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let missing = |needed| Error::Batch {
            strategy: "entropy-minimisation",
            needed,
        };
        let labelled = batch.labelled.as_ref().ok_or(missing("labelled patches"))?;
        let unlabelled = batch
            .unlabelled
            .as_ref()
            .ok_or(missing("unlabelled patches"))?;
        let network = self.learners[0].network();
        let target = Target {
            label: labelled.label.shallow_clone(),
            valid: None,
        };
        let logits = network.forward(&labelled.image)?;
        let supervised = DiceCrossEntropy::default().terms(&logits, &target)?.total;
        context.record("supervised", &supervised, 1.0)?;
        context.backward(&supervised, 1.0)?;

        let log_p = network
            .forward(&unlabelled.image)?
            .f_log_softmax(1, Kind::Float)?;
        let entropy = log_p.f_exp()?.f_mul(&log_p)?.f_mean(Kind::Float)?.f_neg()?;
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

#[test]
fn the_trait_is_all_a_method_needs() {
    let shape = StuNetConfig {
        widths: [4; 6],
        strides: [[2; 3], [1, 2, 2], [1; 3], [1; 3], [1; 3]],
        precision: Precision::F32,
        ..StuNetConfig::small(2)
    };
    let network = StuNet::new(&shape, Device::Cpu, &mut Seed(1).stream("w", 0, 0)).unwrap();
    let learner = Learner::new("network", Box::new(network), OptimiserConfig::adamw()).unwrap();
    let mut strategy = EntropyMinimisation {
        learners: [learner],
        weight: 1.0,
    };
    let image = Tensor::arange(4 * 8 * 16, (Kind::Float, Device::Cpu)).sin();
    let image = image.view([1, 1, 4, 8, 16]);
    let label = image.squeeze_dim(1).gt(0.5).to_kind(Kind::Int64);
    let batch = Batch {
        labelled: Some(Labelled {
            image: image.shallow_clone(),
            label,
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image,
            strong: vec![],
            valid: None,
        }),
    };
    let mut entropies = Vec::new();
    for iteration in 0..12 {
        let mut context = StepContext::new(
            Progress {
                iteration,
                iterations: 12,
            },
            1,
        );
        strategy.step(&batch, &mut context).unwrap();
        strategy.optimise(3e-3, 12.0).unwrap();
        entropies.push(context.log().unwrap()["entropy"]);
    }
    assert!(entropies[11] < entropies[0], "{entropies:?}");
}
