//! Mixed domains: intermediate samples, symmetric guidance and amplitude mixup.

use crate::boxes::grid;
use crate::{Batch, BatchRequest, Candidate, Decay, Error, FrequencyWindow, Guidance, Learner};
use crate::{
    Labelled, PasteBox, RegionDice, Result, StepContext, Strategy, Teacher, TeacherLogits,
};
use crate::{
    Sentinel, masked_loss, mean_within, mix_amplitudes, paste, paste_images, share_of_run,
    stepped_ramp,
};
use liseg_nn::tch::{Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Which axes an image is transformed along before its amplitudes are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AmplitudeAxes {
    /// All three: one spectrum of the whole patch.
    #[default]
    All,
    /// Rows and columns: every slice takes its style from the slice of the same number, as the 2-D
    /// original would. Neighbouring slices can flicker.
    InPlane,
    /// None: amplitudes are not mixed.
    Off,
}

/// Settings of MiDSS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MidssConfig {
    /// Labelled patches in a batch, and as many unlabelled ones; pairs of the two are mixed. The
    /// original has 4 of each, in 2-D.
    pub patches: usize,
    /// τ, the probability above which the teacher is sure, 0..=1; 0.95.
    pub threshold: f64,
    /// Largest weight of all that is learnt without labels, 0 or more; 1.
    pub weight: f64,
    /// How often the patches of a pair are pasted into each other, 0..=1; 1. Else the box is empty.
    pub box_probability: f64,
    /// Axes of the Fourier transform.
    pub amplitude_axes: AmplitudeAxes,
    /// β, half width of the mixed frequencies as a share of each axis, above 0 and below 1; 0.01.
    pub amplitude_share: f64,
    /// Dice loss: `batch-square`, or the published form in which the mask does not apply to the
    /// background, `batch-square-background-unmasked`.
    pub dice: RegionDice,
    /// How slowly the teacher follows.
    pub decay: Decay,
}

impl Default for MidssConfig {
    fn default() -> Self {
        Self {
            patches: 2,
            threshold: 0.95,
            weight: 1.0,
            box_probability: 1.0,
            amplitude_axes: AmplitudeAxes::All,
            amplitude_share: 0.01,
            dice: RegionDice::BatchSquare,
            decay: Decay::default(),
        }
    }
}

impl MidssConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Start {
                strategy: "midss",
                reason,
            })
        };
        if self.patches == 0 {
            return refuse("patches is 0; expected 1 or more".into());
        }
        for (field, value) in [
            ("threshold", self.threshold),
            ("box_probability", self.box_probability),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return refuse(format!("{field} is {value}; expected 0..=1"));
            }
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            return refuse(format!("weight is {}; expected 0 or more", self.weight));
        }
        if !(self.amplitude_share > 0.0 && self.amplitude_share < 1.0) {
            let found = self.amplitude_share;
            return refuse(format!(
                "amplitude_share is {found}; expected a share above 0 and below 1"
            ));
        }
        self.decay.check("midss")
    }

    fn window(&self, shape: [usize; 3]) -> Option<FrequencyWindow> {
        match self.amplitude_axes {
            AmplitudeAxes::All => Some(FrequencyWindow::of_share(shape, self.amplitude_share)),
            AmplitudeAxes::InPlane => Some(FrequencyWindow::in_plane(shape, self.amplitude_share)),
            AmplitudeAxes::Off => None,
        }
    }
}

/// Labels from one domain, unlabelled patches from many (Ma et al., CVPR 2024), in 3-D.
///
/// Per pair of patches, with s_u the strong view of x_u and B the box (1 inside):
///
/// - x_f = x_l with low-frequency amplitudes of x_u; their share is drawn from U(0, i / T), so that
///   styles come nearer to the other domain as training goes on
/// - the teacher sees x_u, w_ul = x_u (1 − B) + x_l B and w_lu = x_l (1 − B) + x_u B
/// - the student sees x_l, s_ul = s_u (1 − B) + x_f B, s_lu = x_f (1 − B) + s_u B and s_u
/// - targets: ŷ_u with y_l pasted in the same way; for s_u the labels of [`Guidance`]
/// - L = CE(x_l) + Dice(x_l) + w (U_ul + U_lu + w U_s), w = [`stepped_ramp`]
///
/// The Dice loss sums over the batch, so the two or more patches of a batch go through the networks
/// together whatever the size of micro-batches.
#[derive(Debug)]
pub struct Midss {
    config: MidssConfig,
    learners: [Learner; 1],
    teachers: [Teacher; 1],
}

/// What a pair of patches becomes in one step.
struct Mixtures {
    /// The box of every sample, bool `[n, z, y, x]`.
    inside: Tensor,
    /// x_f.
    styled: Tensor,
}

impl Midss {
    /// Trains the first network; the second becomes its teacher.
    ///
    /// # Errors
    /// [`Error::Start`] for settings out of range.
    pub fn new(
        config: MidssConfig,
        [student, teacher]: [Box<dyn SegmentationNet>; 2],
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        config.check()?;
        let teachers = [Teacher::copy_of(student.as_ref(), "teacher", teacher)?];
        Ok(Self {
            learners: [Learner::new("network", student, optimiser)?],
            config,
            teachers,
        })
    }

    /// Draws boxes and styles; every pair has its own random streams.
    fn mixtures(
        &self,
        labelled: &Tensor,
        unlabelled: &Tensor,
        context: &StepContext,
    ) -> Result<Mixtures> {
        let shape = grid(labelled);
        let bound = share_of_run(context.progress());
        let (mut masks, mut lambda) = (Vec::new(), Vec::new());
        for pair in 0..labelled.size()[0] as u64 {
            let mut rng = context.stream("midss/box", pair);
            let empty = PasteBox {
                offset: [0; 3],
                size: [0; 3],
            };
            let pasted = rng.random::<f64>() < self.config.box_probability;
            let paste_box = if pasted {
                PasteBox::random(shape, &mut rng)
            } else {
                empty
            };
            masks.push(paste_box.mask(shape, labelled.device())?);
            let mut rng = context.stream("midss/amplitude", pair);
            lambda.push(rng.random::<f64>() * bound);
        }
        let styled = match self.config.window(shape) {
            Some(window) => mix_amplitudes(labelled, unlabelled, &lambda, window)?,
            None => labelled.shallow_clone(),
        };
        Ok(Mixtures {
            inside: Tensor::f_stack(&masks, 0)?,
            styled,
        })
    }

    fn guidance(&self, x_l: &Tensor, x_u: &Tensor, inside: &Tensor) -> Result<Guidance> {
        let teacher = &self.teachers[0];
        let logits = TeacherLogits {
            unlabelled: teacher.forward(x_u)?,
            labelled_inside: teacher.forward(&paste_images(x_u, x_l, inside)?)?,
            unlabelled_inside: teacher.forward(&paste_images(x_l, x_u, inside)?)?,
        };
        Guidance::new(&logits, inside, self.config.threshold)
    }

    /// CE + Dice on labelled patches.
    fn supervised(&self, labelled: &Labelled, context: &mut StepContext) -> Result<()> {
        let logits = self.learners[0].network().forward(&labelled.image)?;
        let everywhere = match &labelled.valid {
            Some(valid) => valid.shallow_clone(),
            None => labelled.label.f_ones_like()?,
        };
        let loss = masked_loss(&logits, &labelled.label, &everywhere, self.config.dice)?;
        context.record("supervised", &loss, 1.0)?;
        context.backward(&loss, 1.0)
    }

    /// One of the three losses on what the teacher says.
    fn learn(
        &self,
        name: &'static str,
        image: &Tensor,
        (label, mask): (&Tensor, &Tensor),
        weight: f64,
        context: &mut StepContext,
    ) -> Result<()> {
        let logits = self.learners[0].network().forward(image)?;
        let loss = masked_loss(&logits, label, mask, self.config.dice)?;
        context.record(name, &loss, 1.0)?;
        context.backward(&loss, weight)
    }
}

/// Voxels inside the scanned volume, all of them when nothing is said.
fn valid_or_all(valid: Option<&Tensor>, like: &Tensor) -> Result<Tensor> {
    Ok(match valid {
        Some(valid) => valid.shallow_clone(),
        None => like.f_ones_like()?.f_to_kind(Kind::Bool)?,
    })
}

/// Logs how sure the teacher is, how much it is sure of, how much of it survives the comparison of both mixtures,
/// how often these agree, and how much foreground there is in the pseudo labels.
fn monitor(guidance: &Guidance, valid: Option<&Tensor>, context: &mut StepContext) -> Result<()> {
    let mean = |t: &Tensor| mean_within(t, valid);
    let agreement = guidance.symmetric.f_eq_tensor(&guidance.pseudo)?;
    context.record("confidence", &mean(&guidance.confidence)?, 1.0)?;
    context.record("confident", &mean(&guidance.sure)?, 1.0)?;
    context.record("guided", &mean(&guidance.symmetric_sure)?, 1.0)?;
    context.record("agreement", &mean(&agreement)?, 1.0)?;
    context.record("pseudo_foreground", &mean(&guidance.pseudo.f_gt(0)?)?, 1.0)
}

impl Strategy for Midss {
    fn name(&self) -> &'static str {
        "midss"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.patches,
            unlabelled: self.config.patches,
            strong_views: 1,
            weak_labelled: true,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let (labelled, unlabelled) = batch.both("midss")?;
        let pairs = labelled.len().min(unlabelled.len());
        let labelled = labelled.part(0, pairs)?;
        let unlabelled = unlabelled.part(0, pairs)?;
        let s_u = unlabelled.strong_view("midss", 0)?;
        self.supervised(&labelled, context)?;

        let weight = self.config.weight * stepped_ramp(context.progress(), 200);
        context.record_number("pseudo_weight", weight)?;
        let Mixtures { inside, styled } =
            self.mixtures(&labelled.image, &unlabelled.image, context)?;
        let guidance = self
            .guidance(&labelled.image, &unlabelled.image, &inside)?
            .within(unlabelled.valid.as_ref())?;
        monitor(&guidance, unlabelled.valid.as_ref(), context)?;
        if weight == 0.0 {
            return Ok(());
        }
        let known = valid_or_all(labelled.valid.as_ref(), &labelled.label)?;
        let (pseudo, sure) = (&guidance.pseudo, &guidance.sure);
        self.learn(
            "mixed_labelled_inside",
            &paste_images(s_u, &styled, &inside)?,
            (
                &paste(pseudo, &labelled.label, &inside)?,
                &paste(sure, &known, &inside)?,
            ),
            weight,
            context,
        )?;
        self.learn(
            "mixed_unlabelled_inside",
            &paste_images(&styled, s_u, &inside)?,
            (
                &paste(&labelled.label, pseudo, &inside)?,
                &paste(&known, sure, &inside)?,
            ),
            weight,
            context,
        )?;
        let guided = (&guidance.symmetric, &guidance.symmetric_sure);
        self.learn("guided_strong", s_u, guided, weight * weight, context)
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
            Sentinel::empty_pseudo_labels(),
            Sentinel::flooded_pseudo_labels(),
            Sentinel::no_confidence(),
        ]
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        Candidate::student_and_teacher(&self.learners[0], &self.teachers[0])
    }
}
