//! Cross pseudo supervision.

use crate::boxes::grid;
use crate::ramp::steps_of_share;
use crate::{Batch, BatchRequest, Candidate, Error, Labelled, Learner, Result, StepContext};
use crate::{
    Progress, Sentinel, Strategy, Trouble, Unlabelled, label_and_confidence, mean_within, paste,
    paste_images, toggled_boxes,
};
use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg_nn::tch::{Tensor, no_grad_guard};
use liseg_nn::{OptimiserConfig, SegmentationNet, schedule};
use serde::{Deserialize, Serialize};

/// On which patches the networks supervise each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Labelled patches only.
    Labelled,
    /// Unlabelled patches only.
    Unlabelled,
    /// All patches, as in the original.
    #[default]
    Both,
}

/// How the pseudo-supervision of labelled and unlabelled patches is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// One mean over all patches of the batch, as the published code does.
    #[default]
    Joint,
    /// The mean over labelled plus the mean over unlabelled patches, as the paper writes it: twice
    /// as much for equal halves.
    Sum,
}

/// Which networks answer after training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// The mean of both softmax maps.
    #[default]
    Mean,
    /// The first network alone, as the published code does.
    First,
}

/// What the two networks see of an unlabelled patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Views {
    /// Both the same patch, as in the original.
    #[default]
    Shared,
    /// Each a strong view of its own; pseudo labels come from the weak view they share (Li et al.,
    /// Diverse Co-training, ICCV 2023). Two equal networks part in the first step.
    PerNetwork,
}

/// Settings of cross pseudo supervision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CpsConfig {
    /// Labelled patches in a batch.
    pub labelled: usize,
    /// Unlabelled patches in a batch.
    pub unlabelled: usize,
    /// Loss on labels, applied at every scale.
    pub loss: DiceCrossEntropy,
    /// Loss on pseudo labels, applied at every scale; the original uses plain cross-entropy.
    pub pseudo_loss: DiceCrossEntropy,
    /// λ, the weight of the pseudo-supervision; the original uses 1.5.
    pub weight: f64,
    /// Share of the run over which λ rises from almost nothing (sigmoid ramp); 0 for no ramp.
    pub ramp: f64,
    /// On which patches the networks supervise each other.
    pub apply_to: Scope,
    /// How labelled and unlabelled patches are averaged.
    pub reduction: Reduction,
    /// What the two networks see of an unlabelled patch.
    pub views: Views,
    /// Whether unlabelled patches are mixed by CutMix: twice `unlabelled` are loaded, and boxes of
    /// the second half are pasted into the first. The original then supervises unlabelled patches
    /// only (`apply_to = "unlabelled"`) with weight 1.
    pub cutmix: bool,
    /// Which networks answer after training.
    pub predict_with: Prediction,
}

impl Default for CpsConfig {
    fn default() -> Self {
        Self {
            labelled: 2,
            unlabelled: 2,
            loss: DiceCrossEntropy::default(),
            pseudo_loss: DiceCrossEntropy::cross_entropy(),
            weight: 1.5,
            ramp: 0.1,
            apply_to: Scope::Both,
            reduction: Reduction::Joint,
            views: Views::Shared,
            cutmix: false,
            predict_with: Prediction::Mean,
        }
    }
}

impl CpsConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Start {
                strategy: "cps",
                reason,
            })
        };
        if self.labelled == 0 || self.unlabelled == 0 {
            return refuse(format!(
                "a batch of {} labelled and {} unlabelled patches; expected 1 or more of each",
                self.labelled, self.unlabelled
            ));
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            return refuse(format!("weight is {}; expected 0 or more", self.weight));
        }
        if !(0.0..=1.0).contains(&self.ramp) {
            return refuse(format!(
                "ramp is {}; expected a share of the run in 0..=1",
                self.ramp
            ));
        }
        if self.cutmix && self.views == Views::PerNetwork {
            let reason = "cutmix and views = \"per-network\" exclude each other; choose one";
            return refuse(reason.into());
        }
        Ok(())
    }

    /// λ at this point of the run.
    fn weight_at(&self, progress: Progress) -> f64 {
        let length = steps_of_share(self.ramp, progress.iterations);
        self.weight * schedule::sigmoid_ramp(progress.iteration, length)
    }

    /// The weight of each half's own mean in the pseudo-supervision: (labelled, unlabelled).
    fn shares(&self) -> (f64, f64) {
        let (l, u) = match self.apply_to {
            Scope::Labelled => (self.labelled as f64, 0.0),
            Scope::Unlabelled => (0.0, self.unlabelled as f64),
            Scope::Both => (self.labelled as f64, self.unlabelled as f64),
        };
        match self.reduction {
            Reduction::Joint => (l / (l + u), u / (l + u)),
            Reduction::Sum => (f64::from(l > 0.0), f64::from(u > 0.0)),
        }
    }
}

/// Two networks of one architecture and different weights teach each other (Chen et al., CVPR 2021).
///
/// With p₁, p₂ the softmax maps and ŷ₁, ŷ₂ their argmax,
///
/// L = L_s(p₁, y) + L_s(p₂, y) + λ [ℓ(p₁, ŷ₂) + ℓ(p₂, ŷ₁)]
///
/// Pseudo labels carry no gradient, so each network's gradient holds only its own terms. Two equal
/// networks would stay equal for ever and learn from themselves: that is refused at the start, and
/// the logged `agreement` on unlabelled patches shows when they come close.
#[derive(Debug)]
pub struct Cps {
    config: CpsConfig,
    loss: DeepSupervision,
    pseudo_loss: DeepSupervision,
    learners: [Learner; 2],
}

/// Names of the logged losses of the two networks: on labels, on pseudo labels of unlabelled and of
/// labelled patches.
const SUPERVISED: [&str; 2] = ["supervised", "supervised_b"];
const PSEUDO: [&str; 2] = ["pseudo", "pseudo_b"];
const PSEUDO_LABELLED: [&str; 2] = ["pseudo_labelled", "pseudo_labelled_b"];

impl Cps {
    /// Trains two networks that start different.
    ///
    /// # Errors
    /// [`Error::Start`] for settings out of range or networks with equal weights.
    pub fn new(
        config: CpsConfig,
        [first, second]: [Box<dyn SegmentationNet>; 2],
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        config.check()?;
        let parted = config.views == Views::PerNetwork;
        if !parted && are_equal(first.as_ref(), second.as_ref())? {
            let reason = "both networks start from the same weights and would stay the same for \
                          ever; set network.fresh_heads = true, give network.second_weights, or \
                          choose strategy.views = \"per-network\"";
            return Err(Error::Start {
                strategy: "cps",
                reason: reason.into(),
            });
        }
        let learners = [
            Learner::new("network", first, optimiser)?,
            Learner::new("network_b", second, optimiser)?,
        ];
        Ok(Self {
            loss: DeepSupervision::new(config.loss),
            pseudo_loss: DeepSupervision::new(config.pseudo_loss),
            config,
            learners,
        })
    }

    fn forward(&self, image: &Tensor) -> Result<[Vec<Tensor>; 2]> {
        let [a, b] = &self.learners;
        Ok([
            a.network().forward_scales(image)?,
            b.network().forward_scales(image)?,
        ])
    }

    /// Both supervised losses and, where asked for, both cross losses on labelled patches.
    fn step_labelled(
        &self,
        labelled: &Labelled,
        pseudo_weight: f64,
        context: &mut StepContext,
    ) -> Result<()> {
        for range in context.micro_batches(labelled.len()) {
            let share = range.len() as f64 / labelled.len() as f64;
            let part = labelled.part(range.start, range.len())?;
            let scales = self.forward(&part.image)?;
            let pseudo = pseudo_labels(&scales, part.valid.as_ref())?;
            let target = Target {
                label: part.label,
                valid: part.valid,
            };
            for (i, scales) in scales.iter().enumerate() {
                let supervised = self.loss.terms(scales, &target)?.total;
                context.record(SUPERVISED[i], &supervised, share)?;
                let mut total = supervised;
                if pseudo_weight > 0.0 {
                    let cross = self.pseudo_loss.terms(scales, &pseudo[1 - i])?.total;
                    context.record(PSEUDO_LABELLED[i], &cross, share)?;
                    total = total.f_add(&cross.f_mul_scalar(pseudo_weight)?)?;
                }
                context.backward(&total, share)?;
            }
        }
        Ok(())
    }

    /// Both cross losses on unlabelled patches.
    fn step_unlabelled(
        &self,
        unlabelled: &Unlabelled,
        pseudo_weight: f64,
        context: &mut StepContext,
    ) -> Result<()> {
        let samples = if self.config.cutmix {
            unlabelled.len() / 2
        } else {
            unlabelled.len()
        };
        for range in context.micro_batches(samples) {
            let share = range.len() as f64 / samples as f64;
            let (logits, pseudo) = if self.config.cutmix {
                self.mixed(unlabelled, samples, range, context)?
            } else {
                let part = unlabelled.part(range.start, range.len())?;
                match self.config.views {
                    Views::Shared => {
                        let scales = self.forward(&part.image)?;
                        let pseudo = pseudo_labels(&scales, part.valid.as_ref())?;
                        (scales, pseudo)
                    }
                    Views::PerNetwork => self.parted(&part)?,
                }
            };
            monitor(&logits, &pseudo, share, context)?;
            if pseudo_weight == 0.0 {
                continue;
            }
            for (i, scales) in logits.iter().enumerate() {
                let cross = self.pseudo_loss.terms(scales, &pseudo[1 - i])?.total;
                context.record(PSEUDO[i], &cross, share)?;
                context.backward(&cross, share * pseudo_weight)?;
            }
        }
        Ok(())
    }

    /// Labels of the weak view, logits of the two strong ones.
    fn parted(&self, part: &Unlabelled) -> Result<Answers> {
        let weak = self.no_grad(&part.image)?.map(|logits| vec![logits]);
        let pseudo = pseudo_labels(&weak, part.valid.as_ref())?;
        let [a, b] = &self.learners;
        let scales = [
            a.network().forward_scales(part.strong_view("cps", 0)?)?,
            b.network().forward_scales(part.strong_view("cps", 1)?)?,
        ];
        Ok((scales, pseudo))
    }

    /// CutMix: the two halves of the unlabelled patches are mixed by boxes; labels are the argmax of
    /// the logits mixed in the same way.
    fn mixed(
        &self,
        unlabelled: &Unlabelled,
        half: usize,
        range: std::ops::Range<usize>,
        context: &StepContext,
    ) -> Result<Answers> {
        let first = unlabelled.part(range.start, range.len())?;
        let second = unlabelled.part(half + range.start, range.len())?;
        let (shape, device) = (grid(&first.image), first.image.device());
        let masks = range
            .map(|sample| {
                let mut rng = context.stream("cps/cutmix", sample as u64);
                toggled_boxes(shape, &mut rng, device)
            })
            .collect::<Result<Vec<_>>>()?;
        let inside = Tensor::f_stack(&masks, 0)?;
        let of_first = self.no_grad(&first.image)?;
        let of_second = self.no_grad(&second.image)?;
        let mut logits = Vec::new();
        for (a, b) in of_first.iter().zip(&of_second) {
            logits.push(vec![paste_images(a, b, &inside)?]);
        }
        let valid = match (&first.valid, &second.valid) {
            (None, None) => None,
            (a, b) => {
                let all = || first.image.f_select(1, 0)?.f_isfinite();
                let a = a.as_ref().map_or_else(all, |a| Ok(a.shallow_clone()))?;
                let b = b.as_ref().map_or_else(all, |b| Ok(b.shallow_clone()))?;
                Some(paste(&a, &b, &inside)?)
            }
        };
        let mut logits = logits.into_iter();
        let (Some(a), Some(b)) = (logits.next(), logits.next()) else {
            return Err(Error::Batch {
                strategy: "cps",
                needed: "logits of two networks",
            });
        };
        let pseudo = pseudo_labels(&[a, b], valid.as_ref())?;
        let image = paste_images(&first.image, &second.image, &inside)?;
        Ok((self.forward(&image)?, pseudo))
    }

    /// The logits of both networks at full resolution, without gradient.
    fn no_grad(&self, image: &Tensor) -> Result<[Tensor; 2]> {
        let _guard = no_grad_guard();
        let [a, b] = &self.learners;
        Ok([a.network().forward(image)?, b.network().forward(image)?])
    }
}

/// Both networks' logits at every scale, and the labels that each gives to the other.
type Answers = ([Vec<Tensor>; 2], [Target; 2]);

impl Strategy for Cps {
    fn name(&self) -> &'static str {
        "cps"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.labelled,
            unlabelled: self.config.unlabelled * if self.config.cutmix { 2 } else { 1 },
            strong_views: match self.config.views {
                Views::Shared => 0,
                Views::PerNetwork => 2,
            },
            weak_labelled: false,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let (labelled, unlabelled) = batch.both("cps")?;
        let weight = self.config.weight_at(context.progress());
        let (of_labelled, of_unlabelled) = self.config.shares();
        self.step_labelled(labelled, weight * of_labelled, context)?;
        self.step_unlabelled(unlabelled, weight * of_unlabelled, context)?;
        context.record_number("pseudo_weight", weight)
    }

    fn learners(&self) -> &[Learner] {
        &self.learners
    }

    fn learners_mut(&mut self) -> &mut [Learner] {
        &mut self.learners
    }

    fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)> {
        let [a, b] = &self.learners;
        match self.config.predict_with {
            Prediction::Mean => vec![a.named(), b.named()],
            Prediction::First => vec![a.named()],
        }
    }

    fn sentinels(&self) -> Vec<Sentinel> {
        let of_second = |sentinel| Sentinel {
            term: "pseudo_foreground_b",
            ..sentinel
        };
        vec![
            Sentinel::empty_ramped_pseudo_labels(),
            Sentinel::flooded_pseudo_labels(),
            of_second(Sentinel::empty_ramped_pseudo_labels()),
            of_second(Sentinel::flooded_pseudo_labels()),
            Sentinel {
                term: "agreement",
                trouble: Trouble::Above(0.999),
                epochs: 2,
                message: "the two networks answer the same in nearly every voxel, so neither learns from the \
                          other; start them from different weights (network.second_weights, \
                          network.fresh_heads = true) or give them views of their own (strategy.views = \
                          \"per-network\")",
            },
            Sentinel {
                term: "network_distance",
                trouble: Trouble::Below(1e-4),
                epochs: 1,
                message: "the two networks have become one, so each learns from itself; start them \
                          from different weights (network.second_weights, network.fresh_heads = true) \
                          or give them views of their own (strategy.views = \"per-network\")",
            },
        ]
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let [a, b] = &self.learners;
        let candidate = |name: &str, networks| Candidate {
            name: name.to_owned(),
            networks,
        };
        let mean = candidate("mean", vec![a.network(), b.network()]);
        let first = candidate("network", vec![a.network()]);
        let second = candidate("network_b", vec![b.network()]);
        match self.config.predict_with {
            Prediction::Mean => vec![mean, first, second],
            Prediction::First => vec![first, second, mean],
        }
    }
}

/// The hard labels of each network at full resolution, without gradient.
fn pseudo_labels(scales: &[Vec<Tensor>; 2], valid: Option<&Tensor>) -> Result<[Target; 2]> {
    let label = |scales: &Vec<Tensor>| -> Result<Target> {
        let finest = &scales[0];
        let label = finest.f_detach()?.f_argmax(1, false)?;
        Ok(Target {
            label,
            valid: valid.map(Tensor::shallow_clone),
        })
    };
    Ok([label(&scales[0])?, label(&scales[1])?])
}

/// Logs how far the two networks agree on unlabelled patches (Dice of their foregrounds), how sure
/// the first one is, and how much foreground each sees: agreement near 1 early on means that they
/// have become one network, foreground near 0 that both have given up.
fn monitor(
    scales: &[Vec<Tensor>; 2],
    pseudo: &[Target; 2],
    share: f64,
    context: &mut StepContext,
) -> Result<()> {
    let _guard = no_grad_guard();
    let valid = pseudo[0].valid.as_ref();
    let mean = |t: &Tensor| mean_within(t, valid);
    let [a, b] = [pseudo[0].label.f_gt(0)?, pseudo[1].label.f_gt(0)?];
    let (in_a, in_b) = (mean(&a)?, mean(&b)?);
    let common = mean(&a.f_logical_and(&b)?)?.f_mul_scalar(2.0)?;
    // Two empty foregrounds agree perfectly: (0 + ε) / (0 + ε).
    let epsilon = 1e-12;
    let agreement = common
        .f_add_scalar(epsilon)?
        .f_div(&in_a.f_add(&in_b)?.f_add_scalar(epsilon)?)?;
    context.record("agreement", &agreement, share)?;
    context.record("pseudo_foreground", &in_a, share)?;
    context.record("pseudo_foreground_b", &in_b, share)?;
    for (name, scales) in ["confidence", "confidence_b"].into_iter().zip(scales) {
        let (_, confidence) = label_and_confidence(&scales[0])?;
        context.record(name, &mean(&confidence)?, share)?;
    }
    Ok(())
}

fn are_equal(a: &dyn SegmentationNet, b: &dyn SegmentationNet) -> Result<bool> {
    for (name, tensor) in a.parameters().iter() {
        match b.parameters().get(name) {
            Some(other) if other.size() == tensor.size() && tensor.f_equal(other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
