//! The trait.

use crate::sentinel::distances;
use crate::{Batch, BatchRequest, Learner, Result, Sentinel, StepContext, Teacher};
use liseg_nn::{GradientNorm, SegmentationNet, TensorMap};

/// Networks that are scored together in validation: the mean of their softmax maps.
pub struct Candidate<'a> {
    /// How logs and tables call it.
    pub name: String,
    /// The networks.
    pub networks: Vec<&'a dyn SegmentationNet>,
}

impl<'a> Candidate<'a> {
    /// Student and teacher, each alone; the student predicts.
    pub fn student_and_teacher(student: &'a Learner, teacher: &'a Teacher) -> Vec<Self> {
        let candidate = |(name, network): (&str, &'a dyn SegmentationNet)| Self {
            name: name.to_owned(),
            networks: vec![network],
        };
        vec![candidate(student.named()), candidate(teacher.named())]
    }
}

/// A way of training: everything about a method that the trainer does not need to know.
///
/// In every step the trainer calls [`Strategy::step`] with a batch as requested, then
/// [`Strategy::optimise`]. Methods with a teacher override [`Strategy::after_step`] to move it.
///
/// # Example
/// A whole method: entropy minimisation (Grandvalet & Bengio 2005). Saving, resuming, validation,
/// logging and prediction come from the trait. `liseg-engine`'s `train_own` trains it.
/// ```
/// use liseg_nn::SegmentationNet;
/// use liseg_nn::loss::DiceCrossEntropy;
/// use liseg_nn::tch::Kind;
/// use liseg_ssl::{Batch, BatchRequest, Learner, Result, StepContext, Strategy, mean_within};
///
/// struct EntropyMinimisation {
///     learners: [Learner; 1],
///     weight: f64,
/// }
///
/// impl Strategy for EntropyMinimisation {
///     fn name(&self) -> &'static str {
///         "entropy-minimisation"
///     }
///
///     fn request(&self) -> BatchRequest {
///         BatchRequest { labelled: 2, unlabelled: 2, ..BatchRequest::default() }
///     }
///
///     fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
///         let (labelled, unlabelled) = batch.both("entropy-minimisation")?;
///         let network = self.learners[0].network();
///         let logits = network.forward(&labelled.image)?;
///         let loss = DiceCrossEntropy::default();
///         let supervised = loss.terms(&logits, &labelled.target())?.total;
///         context.record("supervised", &supervised, 1.0)?;
///         context.backward(&supervised, 1.0)?;
///
///         let log_p = network.forward(&unlabelled.image)?.f_log_softmax(1, Kind::Float)?;
///         let of_classes = log_p.f_exp()?.f_mul(&log_p)?.f_neg()?;
///         let of_voxels = of_classes.f_sum_dim_intlist(1, false, Kind::Float)?;
///         // Patches at the border of a volume are padded: nothing is to be learnt there.
///         let entropy = mean_within(&of_voxels, unlabelled.valid.as_ref())?;
///         context.record("entropy", &entropy, 1.0)?;
///         context.backward(&entropy, self.weight)
///     }
///
///     fn learners(&self) -> &[Learner] {
///         &self.learners
///     }
///
///     fn learners_mut(&mut self) -> &mut [Learner] {
///         &mut self.learners
///     }
///
///     fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)> {
///         vec![self.learners[0].named()]
///     }
/// }
/// ```
pub trait Strategy: Send {
    /// The name it has in configs and tables.
    fn name(&self) -> &'static str;

    /// What every batch must hold.
    fn request(&self) -> BatchRequest;

    /// Runs the networks on a batch and adds up gradients in the learners' parameters, by
    /// [`StepContext::backward`]. Changes no weight.
    ///
    /// # Errors
    /// When the batch lacks what was requested or libtorch fails.
    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()>;

    /// The networks in training.
    fn learners(&self) -> &[Learner];

    /// The networks in training, to be moved or loaded.
    fn learners_mut(&mut self) -> &mut [Learner];

    /// The averages that follow the learners.
    fn teachers(&self) -> &[Teacher] {
        &[]
    }

    /// The averages that follow the learners, to be moved or loaded.
    fn teachers_mut(&mut self) -> &mut [Teacher] {
        &mut []
    }

    /// Called after every optimiser step, for averages that follow the learners.
    ///
    /// # Errors
    /// When libtorch fails.
    fn after_step(&mut self, context: &StepContext) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// The networks that predict: the mean of their softmax maps is the answer. Each goes with the
    /// name that prefixes its tensors in checkpoints.
    fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)>;

    /// What validation scores; the first is what predicts.
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let networks = self
            .predictors()
            .into_iter()
            .map(|(_, network)| network)
            .collect();
        vec![Candidate {
            name: self.name().into(),
            networks,
        }]
    }

    /// Quantities that are measured once an epoch and logged with its means: by default, how far the
    /// second learner (`network_distance`) and the teacher (`teacher_distance`) are from the first.
    ///
    /// # Errors
    /// When libtorch fails.
    fn vitals(&self) -> Result<Vec<(&'static str, f64)>> {
        distances(self.learners(), self.teachers())
    }

    /// What the trainer looks out for in the logged quantities.
    fn sentinels(&self) -> Vec<Sentinel> {
        Vec::new()
    }

    /// Moves every learner by one step and clears the gradients. They are clipped to a global norm of `clip`
    /// for each learner; when those of one are not finite, all learners stay where they are.
    ///
    /// # Errors
    /// When libtorch fails.
    fn optimise(&mut self, lr: f64, clip: f64) -> Result<Vec<GradientNorm>> {
        let learners = self.learners_mut();
        let norms = learners.iter().map(|learner| learner.clip(clip));
        let norms = norms.collect::<liseg_nn::Result<Vec<_>>>()?;
        let finite = norms.iter().all(|norm| norm.is_finite());
        for learner in learners {
            if finite {
                learner.step(lr)?;
            }
            learner.clear_gradients()?;
        }
        Ok(norms)
    }

    /// Copies everything the strategy owns into `map`.
    ///
    /// # Errors
    /// When libtorch fails.
    fn save_into(&self, map: &mut TensorMap) -> Result<()> {
        self.learners()
            .iter()
            .try_for_each(|learner| learner.save_into(map))?;
        self.teachers()
            .iter()
            .try_for_each(|teacher| teacher.save_into(map))
    }

    /// Restores what [`Strategy::save_into`] saved.
    ///
    /// # Errors
    /// When a tensor is missing, left over or of another shape.
    fn load(&mut self, map: &TensorMap) -> Result<()> {
        self.learners_mut()
            .iter_mut()
            .try_for_each(|learner| learner.load(map))?;
        self.teachers_mut()
            .iter_mut()
            .try_for_each(|teacher| teacher.load(map))
    }
}
