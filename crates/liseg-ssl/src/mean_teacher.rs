//! Mean teacher.

use crate::ramp::steps_of_share;
use crate::{Batch, BatchRequest, Candidate, Decay, Error, Learner, Result, StepContext};
use crate::{Sentinel, Strategy, Teacher, label_and_confidence, mean_within};
use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg_nn::tch::{Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet, schedule};
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};

/// Settings of the mean teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MeanTeacherConfig {
    /// Labelled patches in a batch, 1 or more.
    pub labelled: usize,
    /// Unlabelled patches in a batch, 1 or more.
    pub unlabelled: usize,
    /// Loss on labels, applied at every scale.
    pub loss: DiceCrossEntropy,
    /// Largest weight of the consistency, 0 or more; the medical baselines use 0.1 beside ½ (CE + Dice).
    pub weight: f64,
    /// Share of the run over which the weight rises (sigmoid ramp), 0..=1; 1 as the baselines do.
    pub ramp: f64,
    /// Standard deviation of the noise on the teacher's view, clipped at twice that, in units of the
    /// normalised image, 0 or more; the baselines use 0.1.
    pub noise: f64,
    /// How slowly the teacher follows.
    pub decay: Decay,
}

impl Default for MeanTeacherConfig {
    fn default() -> Self {
        Self {
            labelled: 2,
            unlabelled: 2,
            loss: DiceCrossEntropy::default(),
            weight: 0.1,
            ramp: 1.0,
            noise: 0.1,
            decay: Decay::default(),
        }
    }
}

impl MeanTeacherConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Start {
                strategy: "mean-teacher",
                reason,
            })
        };
        if self.labelled == 0 || self.unlabelled == 0 {
            return refuse("labelled or unlabelled is 0; expected 1 or more of each".into());
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            return refuse(format!("weight is {}; expected 0 or more", self.weight));
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return refuse(format!("noise is {}; expected 0 or more", self.noise));
        }
        if !(0.0..=1.0).contains(&self.ramp) {
            return refuse(format!("ramp is {}; expected a share in 0..=1", self.ramp));
        }
        self.decay.check("mean-teacher")
    }
}

/// A student that agrees with the average of its past on unlabelled patches (Tarvainen & Valpola,
/// NeurIPS 2017): L = L_s(x_l, y) + w(i) · mean (softmax_student(x_u) − softmax_teacher(x_u))².
///
/// Both see the same view; the teacher's has a little noise.
#[derive(Debug)]
pub struct MeanTeacher {
    config: MeanTeacherConfig,
    loss: DeepSupervision,
    learners: [Learner; 1],
    teachers: [Teacher; 1],
}

impl MeanTeacher {
    /// Trains the first network; the second becomes its teacher.
    ///
    /// # Errors
    /// [`Error::Start`] for settings out of range.
    pub fn new(
        config: MeanTeacherConfig,
        [student, teacher]: [Box<dyn SegmentationNet>; 2],
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        config.check()?;
        let teachers = [Teacher::copy_of(student.as_ref(), "teacher", teacher)?];
        Ok(Self {
            loss: DeepSupervision::new(config.loss),
            learners: [Learner::new("network", student, optimiser)?],
            config,
            teachers,
        })
    }
}

impl MeanTeacher {
    /// An image with clipped normal noise; every sample has its own random stream.
    fn with_noise(&self, image: &Tensor, first: usize, context: &StepContext) -> Result<Tensor> {
        if self.config.noise == 0.0 {
            return Ok(image.shallow_clone());
        }
        let size = image.size();
        let voxels = size.iter().skip(1).product::<i64>() as usize;
        let normal = Normal::new(0.0, self.config.noise as f32).map_err(|e| Error::Start {
            strategy: "mean-teacher",
            reason: format!("noise: {e}"),
        })?;
        let bound = 2.0 * self.config.noise as f32;
        let mut values = Vec::with_capacity(voxels * size[0] as usize);
        for sample in 0..size[0] as usize {
            let mut rng = context.stream("mean-teacher/noise", (first + sample) as u64);
            values.extend((0..voxels).map(|_| normal.sample(&mut rng).clamp(-bound, bound)));
        }
        let noise = Tensor::f_from_slice(&values)?.f_view(size.as_slice())?;
        Ok(image.f_add(&noise.f_to_device(image.device())?)?)
    }
}

impl Strategy for MeanTeacher {
    fn name(&self) -> &'static str {
        "mean-teacher"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.labelled,
            unlabelled: self.config.unlabelled,
            strong_views: 0,
            weak_labelled: false,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let (labelled, unlabelled) = batch.both("mean-teacher")?;
        let student = self.learners[0].network();
        for range in context.micro_batches(labelled.len()) {
            let share = range.len() as f64 / labelled.len() as f64;
            let part = labelled.part(range.start, range.len())?;
            let target = Target {
                label: part.label,
                valid: part.valid,
            };
            let scales = student.forward_scales(&part.image)?;
            let supervised = self.loss.terms(&scales, &target)?.total;
            context.record("supervised", &supervised, share)?;
            context.backward(&supervised, share)?;
        }
        let progress = context.progress();
        let length = steps_of_share(self.config.ramp, progress.iterations);
        let weight = self.config.weight * schedule::sigmoid_ramp(progress.iteration, length);
        for range in context.micro_batches(unlabelled.len()) {
            let share = range.len() as f64 / unlabelled.len() as f64;
            let part = unlabelled.part(range.start, range.len())?;
            let noisy = self.with_noise(&part.image, range.start, context)?;
            let taught = self.teachers[0].forward(&noisy)?;
            let logits = student.forward(&part.image)?;
            let loss = softmax_difference(&logits, &taught, part.valid.as_ref())?;
            monitor((&logits, &taught), part.valid.as_ref(), share, context)?;
            context.record("consistency", &loss, share)?;
            context.backward(&loss, share * weight)?;
        }
        context.record_number("consistency_weight", weight)
    }

    fn after_step(&mut self, context: &StepContext) -> Result<()> {
        let decay = self.config.decay.at(context.progress().iteration);
        self.teachers[0].follow(self.learners[0].network(), decay)
    }

    fn learners(&self) -> &[Learner] {
        &self.learners
    }

    fn learners_mut(&mut self) -> &mut [Learner] {
        &mut self.learners
    }

    fn teachers(&self) -> &[Teacher] {
        &self.teachers
    }

    fn teachers_mut(&mut self) -> &mut [Teacher] {
        &mut self.teachers
    }

    fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)> {
        vec![self.learners[0].named()]
    }

    fn sentinels(&self) -> Vec<Sentinel> {
        vec![
            Sentinel::empty_ramped_pseudo_labels(),
            Sentinel::flooded_pseudo_labels(),
        ]
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        Candidate::student_and_teacher(&self.learners[0], &self.teachers[0])
    }
}

/// Logs how often the student agrees with the teacher, how sure the teacher is, and how much
/// foreground it sees.
fn monitor(
    (student, teacher): (&Tensor, &Tensor),
    valid: Option<&Tensor>,
    share: f64,
    context: &mut StepContext,
) -> Result<()> {
    let (label, confidence) = label_and_confidence(teacher)?;
    let same = student.f_argmax(1, false)?.f_eq_tensor(&label)?;
    context.record("agreement", &mean_within(&same, valid)?, share)?;
    context.record("confidence", &mean_within(&confidence, valid)?, share)?;
    context.record(
        "pseudo_foreground",
        &mean_within(&label.f_gt(0)?, valid)?,
        share,
    )
}

/// The mean over voxels and classes of the squared difference of two softmax maps. Voxels outside
/// `valid` count as equal. The second carries no gradient.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn softmax_difference(
    student: &Tensor,
    teacher: &Tensor,
    valid: Option<&Tensor>,
) -> Result<Tensor> {
    let taught = teacher.f_detach()?.f_softmax(1, Kind::Float)?;
    let squares = student
        .f_softmax(1, Kind::Float)?
        .f_sub(&taught)?
        .f_square()?;
    let squares = match valid {
        Some(valid) => squares.f_mul(&valid.f_unsqueeze(1)?.f_to_kind(Kind::Float)?)?,
        None => squares,
    };
    Ok(squares.f_mean(Kind::Float)?)
}
