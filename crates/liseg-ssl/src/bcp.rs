//! Bidirectional copy-paste.

use crate::boxes::grid;
use crate::ramp::share_of_run;
use crate::{Batch, BatchRequest, Candidate, Decay, Error, Learner, PasteBox, Result, StepContext};
use crate::{Labelled, Progress, RegionDice, Sentinel, Strategy, Teacher, Unlabelled};
use crate::{clean, hard_labels, label_and_confidence, mean_within, paste, region_cross_entropy};
use liseg_morphology::Connectivity;
use liseg_nn::tch::{Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use serde::{Deserialize, Serialize};

/// Settings of bidirectional copy-paste.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BcpConfig {
    /// Labelled patches in a batch and as many unlabelled ones; even, 2 or more. Halves of each are
    /// mixed with halves of the other.
    pub patches: usize,
    /// Share of the run that is spent on mixed labelled patches only, 0..=1; 0.12.
    pub pretraining: f64,
    /// Side of the pasted box as a share of the patch's, in 0..=1; the original uses 2/3.
    pub box_share: f64,
    /// α, the weight of the region with pseudo labels, 0 or more; the original uses 0.5.
    pub u_weight: f64,
    /// Which voxels join into one component when pseudo labels are cleaned; 26 neighbours.
    pub connectivity: Connectivity,
    /// How slowly the teacher follows in self-training; 0.99 throughout.
    pub decay: Decay,
}

impl Default for BcpConfig {
    fn default() -> Self {
        Self {
            patches: 2,
            pretraining: 0.12,
            box_share: 2.0 / 3.0,
            u_weight: 0.5,
            connectivity: Connectivity::Vertex,
            decay: Decay::constant(0.99),
        }
    }
}

impl BcpConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Start {
                strategy: "bcp",
                reason,
            })
        };
        if self.patches == 0 || !self.patches.is_multiple_of(2) {
            return refuse(format!(
                "patches is {}; expected 2, 4, … since halves are mixed",
                self.patches
            ));
        }
        for (field, value) in [
            ("pretraining", self.pretraining),
            ("box_share", self.box_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return refuse(format!("{field} is {value}; expected a share in 0..=1"));
            }
        }
        if !(self.u_weight >= 0.0 && self.u_weight.is_finite()) {
            return refuse(format!("u_weight is {}; expected 0 or more", self.u_weight));
        }
        self.decay.check("bcp")
    }

    /// Whether this step belongs to the first phase.
    fn is_pretraining(&self, progress: Progress) -> bool {
        share_of_run(progress) < self.pretraining
    }
}

/// Labelled and unlabelled patches are pasted into each other, both ways, and a student learns
/// from the mixtures what a teacher says of the unlabelled parts (Bai et al., CVPR 2023).
///
/// With M = 1 outside the box: x_in = x_la M + x_ua (1 − M) and x_out = x_ub M + x_lb (1 − M). The
/// loss of each is ½ (Dice + CE) over the labelled region plus α times that over the other. The
/// first phase mixes labelled patches only; in it the teacher equals the student.
///
/// The original loads its best pre-trained weights at the start of the second phase and decays the
/// learning rate in each; here training goes on from the last weights, at the run's own rate.
#[derive(Debug)]
pub struct Bcp {
    config: BcpConfig,
    learners: [Learner; 1],
    teachers: [Teacher; 1],
}

/// One side of a mixture.
struct Side {
    image: Tensor,
    label: Tensor,
    valid: Option<Tensor>,
}

impl Side {
    fn labelled(part: Labelled) -> Self {
        Self {
            image: part.image,
            label: part.label,
            valid: part.valid,
        }
    }
}

impl Bcp {
    /// Trains the first network; the second becomes its teacher.
    ///
    /// # Errors
    /// [`Error::Start`] for settings out of range.
    pub fn new(
        config: BcpConfig,
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

    /// An unlabelled part with the teacher's cleaned answer as its label.
    fn taught(&self, part: Unlabelled, share: f64, context: &mut StepContext) -> Result<Side> {
        let logits = self.teachers[0].forward(&part.image)?;
        let mut label = hard_labels(&logits)?;
        if let Some(valid) = &part.valid {
            // What is seen in padding must not be the largest component, nor join two.
            label = label.f_mul(valid)?;
        }
        let seen = label.f_gt(0)?;
        let label = clean(&label, self.config.connectivity)?;
        let mean = |t: &Tensor| mean_within(t, part.valid.as_ref());
        let kept = mean(&label.f_gt(0)?)?;
        context.record("pseudo_foreground", &kept, share)?;
        context.record("cleaned_away", &mean(&seen)?.f_sub(&kept)?, share)?;
        let (_, confidence) = label_and_confidence(&logits)?;
        context.record("confidence", &mean(&confidence)?, share)?;
        Ok(Side {
            image: part.image,
            label,
            valid: part.valid,
        })
    }

    /// Adds the gradients of one mixture; weights are those of its two regions.
    fn learn(
        &self,
        (outer, outer_weight): (&Side, f64),
        (inner, inner_weight): (&Side, f64),
        inside: &Tensor,
        (name, share): (&'static str, f64),
        context: &mut StepContext,
    ) -> Result<()> {
        let image = paste(&outer.image, &inner.image, inside)?;
        let logits = self.learners[0].network().forward(&image)?;
        let outside = region(&inside.f_logical_not()?, outer)?;
        let inside = region(inside, inner)?;
        let of_outer = region_loss(&logits, &outer.label, &outside)?.f_mul_scalar(outer_weight)?;
        let of_inner = region_loss(&logits, &inner.label, &inside)?.f_mul_scalar(inner_weight)?;
        let loss = of_outer.f_add(&of_inner)?;
        context.record(name, &loss, share)?;
        // The side with pseudo labels: the crop in the first mixture, the background in the second.
        let (pasted, label) = if name == "mixed_in" {
            (&inside, &inner.label)
        } else {
            (&outside, &outer.label)
        };
        context.record(
            "agreement",
            &mean_within(
                &logits.f_argmax(1, false)?.f_eq_tensor(label)?,
                Some(pasted),
            )?,
            share / 2.0,
        )?;
        context.backward(&loss, share)
    }
}

/// The voxels of a region that lie inside the scanned volume.
fn region(mask: &Tensor, side: &Side) -> Result<Tensor> {
    Ok(match &side.valid {
        Some(valid) => mask.f_logical_and(valid)?,
        None => mask.f_expand_as(&side.label)?,
    })
}

/// ½ (Dice + CE) over a region.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn region_loss(logits: &Tensor, label: &Tensor, region: &Tensor) -> Result<Tensor> {
    let log_p = logits.f_log_softmax(1, Kind::Float)?;
    let dice = RegionDice::SampleLinear.loss(&log_p.f_exp()?, label, Some(region))?;
    let cross_entropy = region_cross_entropy(&log_p, label, region)?;
    Ok(dice.f_add(&cross_entropy)?.f_mul_scalar(0.5)?)
}

impl Strategy for Bcp {
    fn name(&self) -> &'static str {
        "bcp"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.patches,
            unlabelled: self.config.patches,
            strong_views: 0,
            weak_labelled: false,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let (labelled, unlabelled) = batch.both("bcp")?;
        let half = labelled.len().min(unlabelled.len()) / 2;
        if half == 0 {
            return Err(Error::Batch {
                strategy: "bcp",
                needed: "two labelled and two unlabelled patches",
            });
        }
        let shape = grid(&labelled.image);
        let paste_box = PasteBox::of_share(
            shape,
            self.config.box_share,
            &mut context.stream("bcp/box", 0),
        );
        let inside = paste_box.mask(shape, labelled.image.device())?;
        let pretraining = self.config.is_pretraining(context.progress());
        for range in context.micro_batches(half) {
            let share = range.len() as f64 / half as f64;
            let of_labelled =
                |start: usize| Ok::<_, Error>(Side::labelled(labelled.part(start, range.len())?));
            let a = of_labelled(range.start)?;
            let b = of_labelled(half + range.start)?;
            if pretraining {
                let term = ("mixed_labelled", share);
                // One mean over the whole mixture, not one over each region.
                let label = paste(&a.label, &b.label, &inside)?;
                let valid = match (&a.valid, &b.valid) {
                    (Some(a), Some(b)) => Some(paste(a, b, &inside)?),
                    _ => None,
                };
                let image = paste(&a.image, &b.image, &inside)?;
                let logits = self.learners[0].network().forward(&image)?;
                let everywhere = match valid {
                    Some(valid) => valid,
                    None => label.f_ones_like()?,
                };
                let loss = region_loss(&logits, &label, &everywhere)?;
                context.record(term.0, &loss, term.1)?;
                context.backward(&loss, term.1)?;
                continue;
            }
            let of_unlabelled = |start: usize| unlabelled.part(start, range.len());
            let ua = self.taught(of_unlabelled(range.start)?, share / 2.0, context)?;
            let ub = self.taught(of_unlabelled(half + range.start)?, share / 2.0, context)?;
            let alpha = self.config.u_weight;
            self.learn(
                (&a, 1.0),
                (&ua, alpha),
                &inside,
                ("mixed_in", share),
                context,
            )?;
            self.learn(
                (&ub, alpha),
                (&b, 1.0),
                &inside,
                ("mixed_out", share),
                context,
            )?;
        }
        Ok(())
    }

    fn after_step(&mut self, context: &StepContext) -> Result<()> {
        let progress = context.progress();
        let decay = if self.config.is_pretraining(progress) {
            0.0
        } else {
            self.config.decay.at(progress.iteration)
        };
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
        ]
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        Candidate::student_and_teacher(&self.learners[0], &self.teachers[0])
    }
}
