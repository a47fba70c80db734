//! Weak to strong consistency with two strong views, in the manner of UniMatch V2.

use crate::boxes::grid;
use crate::channel_dropout::{complementary_factors, draw_kept, draw_spared};
use crate::region_dice::{RegionDice, voxel_cross_entropy};
use crate::{Batch, BatchRequest, Candidate, Decay, Error, Labelled, Learner, PasteBox, Result};
use crate::{Sentinel, StepContext, Strategy, Teacher, Unlabelled};
use crate::{label_and_confidence, mean_within, paste, paste_images};
use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg_nn::tch::{Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Settings of weak-to-strong consistency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WeakToStrongConfig {
    /// Labelled patches in a batch, 1 or more.
    pub labelled: usize,
    /// Unlabelled patches in a batch, 1 or more; CutMix needs 2 to have a partner.
    pub unlabelled: usize,
    /// Loss on labels, applied at every scale; the original uses plain cross-entropy.
    pub loss: DiceCrossEntropy,
    /// τ, the probability from which on the teacher is believed, 0..=1; 0.95.
    pub threshold: f64,
    /// Weight of the unlabelled patches against the labelled ones, 0 or more; 1.
    pub weight: f64,
    /// Whether soft Dice over the sure voxels of every patch joins the cross-entropy on unlabelled patches, as
    /// in UniMatch's medical experiments (which have no cross-entropy). Meant for small livers, where nearly all
    /// sure voxels are background.
    pub unlabelled_dice: bool,
    /// How often a strong view gets a box of another patch, 0..=1; 0.5.
    pub cutmix_probability: f64,
    /// Whether the two views lose complementary channels of the encoder's features.
    pub channel_dropout: bool,
    /// How slowly the teacher follows; 0.996 with warm-up.
    pub decay: Decay,
}

impl Default for WeakToStrongConfig {
    fn default() -> Self {
        Self {
            labelled: 2,
            unlabelled: 2,
            loss: DiceCrossEntropy::default(),
            threshold: 0.95,
            weight: 1.0,
            unlabelled_dice: false,
            cutmix_probability: 0.5,
            channel_dropout: true,
            decay: Decay {
                rate: 0.996,
                warm_up: true,
            },
        }
    }
}

impl WeakToStrongConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Start {
                strategy: "weak-to-strong",
                reason,
            })
        };
        if self.labelled == 0 || self.unlabelled == 0 {
            return refuse("labelled or unlabelled is 0; expected 1 or more of each".into());
        }
        for (field, value) in [
            ("threshold", self.threshold),
            ("cutmix_probability", self.cutmix_probability),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return refuse(format!("{field} is {value}; expected 0..=1"));
            }
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            return refuse(format!("weight is {}; expected 0 or more", self.weight));
        }
        self.decay.check("weak-to-strong")
    }
}

/// A teacher labels weak views; a student learns these labels on two strong views of the same
/// patches (Yang et al., UniMatch V2, TPAMI 2025; FixMatch, NeurIPS 2020).
///
/// L = ½ \[ L_s(x_l, y) + w · ½ (L₁ + L₂) \], L_k = Σ ℓ(s_k, ŷ) \[c ≥ τ\] / number of valid voxels
///
/// With `unlabelled_dice`, L_k has the mean over patches of the soft Dice loss over \[c ≥ τ\] as well.
///
/// The strong views change intensity and contrast, not place: what the student has to see through
/// is what changes between phases and vendors. Each view may hold a box of the batch's patches in
/// reverse order, with their labels and confidences, and loses half of the channels of every stage
/// of the encoder, the other half than its twin; half of the patches are spared that.
#[derive(Debug)]
pub struct WeakToStrong {
    config: WeakToStrongConfig,
    loss: DeepSupervision,
    learners: [Learner; 1],
    teachers: [Teacher; 1],
}

/// A strong view and what the teacher says of it.
struct View {
    image: Tensor,
    label: Tensor,
    /// Voxels inside the scanned volume of which the teacher is sure.
    sure: Tensor,
    /// Voxels inside the scanned volume.
    valid: Tensor,
    /// How many they are.
    voxels: Tensor,
}

impl WeakToStrong {
    /// Trains the first network; the second becomes its teacher.
    ///
    /// # Errors
    /// [`Error::Start`] for settings out of range.
    pub fn new(
        config: WeakToStrongConfig,
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

    fn supervised(&self, labelled: &Labelled, context: &mut StepContext) -> Result<()> {
        for range in context.micro_batches(labelled.len()) {
            let share = range.len() as f64 / labelled.len() as f64;
            let part = labelled.part(range.start, range.len())?;
            let target = Target {
                label: part.label,
                valid: part.valid,
            };
            let scales = self.learners[0].network().forward_scales(&part.image)?;
            let loss = self.loss.terms(&scales, &target)?.total;
            context.record("supervised", &loss, share)?;
            context.backward(&loss, 0.5 * share)?;
        }
        Ok(())
    }

    /// The teacher's labels and confidences of the weak views.
    fn taught(
        &self,
        unlabelled: &Unlabelled,
        context: &mut StepContext,
    ) -> Result<(Tensor, Tensor)> {
        let (mut labels, mut confidences) = (Vec::new(), Vec::new());
        for range in context.micro_batches(unlabelled.len()) {
            let part = unlabelled.part(range.start, range.len())?;
            let (label, confidence) =
                label_and_confidence(&self.teachers[0].forward(&part.image)?)?;
            labels.push(label);
            confidences.push(confidence);
        }
        let (label, confidence) = (Tensor::f_cat(&labels, 0)?, Tensor::f_cat(&confidences, 0)?);
        let mean = |t: &Tensor| mean_within(t, unlabelled.valid.as_ref());
        context.record("confidence", &mean(&confidence)?, 1.0)?;
        let sure = confidence.f_ge(self.config.threshold)?;
        context.record("confident", &mean(&sure)?, 1.0)?;
        context.record("pseudo_foreground", &mean(&label.f_gt(0)?)?, 1.0)?;
        Ok((label, confidence))
    }

    /// Strong view `number` with its boxes.
    fn view(
        &self,
        number: usize,
        unlabelled: &Unlabelled,
        (label, confidence): (&Tensor, &Tensor),
        context: &StepContext,
    ) -> Result<View> {
        let image = unlabelled.strong_view("weak-to-strong", number)?;
        let shape = grid(image);
        let mut masks = Vec::new();
        for sample in 0..unlabelled.len() {
            let stream = (sample * 2 + number) as u64;
            let mut rng = context.stream("weak-to-strong/box", stream);
            let paste_box = if rng.random::<f64>() < self.config.cutmix_probability {
                PasteBox::random(shape, &mut rng)
            } else {
                PasteBox {
                    offset: [0; 3],
                    size: [0; 3],
                }
            };
            masks.push(paste_box.mask(shape, image.device())?);
        }
        let inside = Tensor::f_stack(&masks, 0)?;
        let sure = with_partner(confidence, &inside)?.f_ge(self.config.threshold)?;
        let valid = match &unlabelled.valid {
            Some(valid) => with_partner(valid, &inside)?,
            None => label.f_ones_like()?.f_to_kind(Kind::Bool)?,
        };
        Ok(View {
            image: paste_images(image, &image.f_flip([0])?, &inside)?,
            label: with_partner(label, &inside)?,
            sure: sure.f_logical_and(&valid)?,
            voxels: valid.f_to_kind(Kind::Float)?.f_sum(Kind::Float)?,
            valid,
        })
    }

    /// The student's logits of both views of the samples in `range`, view 1 first.
    fn student(
        &self,
        views: &[View; 2],
        range: &std::ops::Range<usize>,
        spared: &[usize],
        context: &StepContext,
    ) -> Result<Tensor> {
        let narrow = |t: &Tensor| t.f_narrow(0, range.start as i64, range.len() as i64);
        let image = Tensor::f_cat(&[narrow(&views[0].image)?, narrow(&views[1].image)?], 0)?;
        let network = self.learners[0].network();
        if !self.config.channel_dropout {
            return Ok(network.forward(&image)?);
        }
        let local: Vec<usize> = spared
            .iter()
            .filter(|sample| range.contains(sample))
            .map(|sample| sample - range.start)
            .collect();
        // A sample's channels do not depend on how the batch is cut.
        let mut streams: HashMap<usize, _> = range
            .clone()
            .map(|s| (s, context.stream("weak-to-strong/dropout", s as u64)))
            .collect();
        let mut perturb = |_stage: usize, features: Tensor| -> liseg_nn::Result<Tensor> {
            let channels = features.size()[1] as usize;
            let kept: Vec<Vec<bool>> = range
                .clone()
                .filter_map(|s| streams.get_mut(&s).map(|rng| draw_kept(channels, rng)))
                .collect();
            let factors = complementary_factors(&kept, &local)?
                .f_to_device(features.device())?
                .f_to_kind(features.kind())?;
            Ok(features.f_mul(&factors)?)
        };
        Ok(network.forward_perturbed(&image, &mut perturb)?)
    }

    fn unsupervised(&self, unlabelled: &Unlabelled, context: &mut StepContext) -> Result<()> {
        let (label, confidence) = self.taught(unlabelled, context)?;
        let taught = (&label, &confidence);
        let views = [
            self.view(0, unlabelled, taught, context)?,
            self.view(1, unlabelled, taught, context)?,
        ];
        if self.config.weight == 0.0 {
            return Ok(());
        }
        let samples = unlabelled.len();
        let spared = draw_spared(samples, &mut context.stream("weak-to-strong/spared", 0));
        for range in context.micro_batches(samples) {
            let share = range.len() as f64 / samples as f64;
            let logits = self.student(&views, &range, &spared, context)?;
            let count = range.len() as i64;
            let mut losses = Vec::new();
            for (number, (name, view)) in ["strong_1", "strong_2"].iter().zip(&views).enumerate() {
                let narrow = |t: &Tensor| t.f_narrow(0, range.start as i64, count);
                let of_view = logits.f_narrow(0, number as i64 * count, count)?;
                let (label, sure) = (narrow(&view.label)?, narrow(&view.sure)?);
                let mut loss = sure_cross_entropy(&of_view, &label, &sure)?.f_div(&view.voxels)?;
                if self.config.unlabelled_dice {
                    let p = of_view.f_softmax(1, Kind::Float)?;
                    let dice = RegionDice::SampleLinear.loss(&p, &label, Some(&sure))?;
                    loss = loss.f_add(&dice.f_mul_scalar(share)?)?;
                }
                context.record(name, &loss, 1.0)?;
                let same = of_view.f_argmax(1, false)?.f_eq_tensor(&label)?;
                let same = mean_within(&same, Some(&narrow(&view.valid)?))?;
                context.record("agreement", &same, share / 2.0)?;
                losses.push(loss);
            }
            let both = losses[0].f_add(&losses[1])?;
            context.backward(&both, 0.25 * self.config.weight)?;
        }
        Ok(())
    }
}

/// A map `[n, z, y, x]` with the boxes filled from the batch in reverse order.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn with_partner(map: &Tensor, inside: &Tensor) -> Result<Tensor> {
    paste(map, &map.f_flip([0])?, inside)
}

/// The sum of the cross-entropy over sure voxels, a scalar with gradient.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn sure_cross_entropy(logits: &Tensor, label: &Tensor, sure: &Tensor) -> Result<Tensor> {
    let log_p = logits.f_log_softmax(1, Kind::Float)?;
    let per_voxel = voxel_cross_entropy(&log_p, label)?;
    Ok(per_voxel
        .f_mul(&sure.f_to_kind(Kind::Float)?)?
        .f_sum(Kind::Float)?)
}

impl Strategy for WeakToStrong {
    fn name(&self) -> &'static str {
        "weak-to-strong"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.labelled,
            unlabelled: self.config.unlabelled,
            strong_views: 2,
            weak_labelled: false,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let (labelled, unlabelled) = batch.both("weak-to-strong")?;
        self.supervised(labelled, context)?;
        self.unsupervised(unlabelled, context)
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
