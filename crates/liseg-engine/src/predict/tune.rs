//! Which cleaning helps, decided on validation.

use super::Model;
use super::postprocess::{Postprocessing, Step};
use crate::Result;
use liseg_data::StoredCase;
use liseg_volume::{Affine, LabelMap, Volume};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A step that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The step, on top of those accepted before it.
    pub step: Step,
    /// Mean Dice of each label before, cases without the label left out.
    pub before: BTreeMap<u8, f64>,
    /// Mean Dice of each label after.
    pub after: BTreeMap<u8, f64>,
    /// Whether it was taken.
    pub accepted: bool,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// The accepted steps.
    pub postprocessing: Postprocessing,
    /// Every step that was tried.
    pub trials: Vec<Trial>,
}

/// Volumes, in millilitres, below which components may be noise.
const MINIMUM_ML: [f64; 3] = [1.0, 5.0, 20.0];

/// Decides as nnU-Net whether to keep only the largest component: of all `labels` jointly if the mean
/// Dice over labels rises and none falls; then, where there are several labels, of each alone if its
/// own rises.
///
/// `masks` are predictions with their references.
///
/// # Errors
/// When masks and references differ in shape.
pub fn determine_largest_component(
    masks: &[(LabelMap, LabelMap)],
    labels: &[u8],
) -> Result<Decision> {
    let mut search = Search::new(masks, labels)?;
    search.try_step(
        Step::KeepLargest {
            labels: labels.to_vec(),
        },
        Gain::Mean,
    )?;
    if labels.len() > 1 {
        for &label in labels {
            search.try_step(
                Step::KeepLargest {
                    labels: vec![label],
                },
                Gain::Of(label),
            )?;
        }
    }
    Ok(search.decision)
}

/// [`determine_largest_component`], then whether to fill holes and to drop small components: each is
/// taken if the mean Dice rises and no label's falls.
///
/// # Errors
/// As [`determine_largest_component`].
pub fn determine_postprocessing(masks: &[(LabelMap, LabelMap)], labels: &[u8]) -> Result<Decision> {
    let largest = determine_largest_component(masks, labels)?;
    let mut search = Search::new(masks, labels)?;
    for step in &largest.postprocessing.steps {
        search.apply(step);
    }
    search.before = search.dice()?;
    search.decision = largest;
    search.try_step(Step::FillHoles, Gain::Mean)?;
    for ml in MINIMUM_ML {
        search.try_step(Step::MinimumVolume { ml }, Gain::Mean)?;
    }
    // A larger minimum includes a smaller one.
    let steps = &mut search.decision.postprocessing.steps;
    let last = steps
        .iter()
        .rposition(|s| matches!(s, Step::MinimumVolume { .. }));
    let mut place = 0;
    steps.retain(|step| {
        place += 1;
        !matches!(step, Step::MinimumVolume { .. }) || Some(place - 1) == last
    });
    Ok(search.decision)
}

/// [`determine_postprocessing`] on preprocessed cases with labels, on the plan's grid.
pub(crate) fn choose_on_cases(model: &Model, cases: &[Arc<StoredCase>]) -> Result<Decision> {
    let plan = model.plan();
    let affine = Affine::from_spacing(plan.spacing);
    let mut masks = Vec::new();
    for case in cases {
        let Some(label) = case.label() else { continue };
        let Some(mask) = model.labels_on_plan_grid(case.image().view())? else {
            continue;
        };
        let label = label.mapv(|l| l.max(0) as u8);
        masks.push((Volume::new(mask, affine)?, Volume::new(label, affine)?));
    }
    let labels: Vec<u8> = plan.labels.values().copied().filter(|&l| l > 0).collect();
    determine_postprocessing(&masks, &labels)
}

/// What must rise for a step to be taken.
#[derive(Clone, Copy)]
enum Gain {
    Mean,
    Of(u8),
}

struct Search<'a> {
    masks: Vec<(LabelMap, &'a LabelMap)>,
    labels: &'a [u8],
    before: BTreeMap<u8, f64>,
    decision: Decision,
}

impl<'a> Search<'a> {
    fn new(masks: &'a [(LabelMap, LabelMap)], labels: &'a [u8]) -> Result<Self> {
        let mut search = Self {
            masks: masks.iter().map(|(p, r)| (p.clone(), r)).collect(),
            labels,
            before: BTreeMap::new(),
            decision: Decision::default(),
        };
        search.before = search.dice()?;
        Ok(search)
    }

    fn apply(&mut self, step: &Step) {
        self.masks
            .par_iter_mut()
            .for_each(|(mask, _)| step.apply(mask));
    }

    fn try_step(&mut self, step: Step, gain: Gain) -> Result<()> {
        let kept: Vec<LabelMap> = self.masks.iter().map(|(mask, _)| mask.clone()).collect();
        self.apply(&step);
        let after = self.dice()?;
        let mean = |dice: &BTreeMap<u8, f64>| dice.values().sum::<f64>() / dice.len().max(1) as f64;
        let of = |dice: &BTreeMap<u8, f64>, label| dice.get(&label).copied().unwrap_or(0.0);
        let accepted = match gain {
            Gain::Of(label) => of(&after, label) > of(&self.before, label),
            Gain::Mean => {
                let falls = self
                    .before
                    .iter()
                    .any(|(label, before)| of(&after, *label) < *before);
                mean(&after) > mean(&self.before) && !falls
            }
        };
        self.decision.trials.push(Trial {
            step: step.clone(),
            before: self.before.clone(),
            after: after.clone(),
            accepted,
        });
        if accepted {
            self.before = after;
            self.decision.postprocessing.steps.push(step);
        } else {
            for ((mask, _), kept) in self.masks.iter_mut().zip(kept) {
                *mask = kept;
            }
        }
        Ok(())
    }

    /// Mean Dice by label over the cases where prediction or reference has it; a label that no case
    /// has is left out.
    fn dice(&self) -> Result<BTreeMap<u8, f64>> {
        let per_case: Vec<[[u64; 3]; 256]> = self
            .masks
            .par_iter()
            .map(|(mask, reference)| {
                if mask.shape() != reference.shape() {
                    return Err(liseg_volume::Error::Shape {
                        expected: reference.shape(),
                        found: mask.shape(),
                    });
                }
                let mut counts = [[0u64; 3]; 256]; // predicted, labelled, both
                for (&p, &r) in mask.data().iter().zip(reference.data()) {
                    counts[usize::from(p)][0] += 1;
                    counts[usize::from(r)][1] += 1;
                    counts[usize::from(p)][2] += u64::from(p == r);
                }
                Ok(counts)
            })
            .collect::<std::result::Result<_, _>>()?;
        let mut means = BTreeMap::new();
        for &label in self.labels {
            let dice: Vec<f64> = per_case
                .iter()
                .map(|counts| counts[usize::from(label)])
                .filter(|[p, r, _]| p + r > 0)
                .map(|[p, r, both]| 2.0 * both as f64 / (p + r) as f64)
                .collect();
            if !dice.is_empty() {
                means.insert(label, dice.iter().sum::<f64>() / dice.len() as f64);
            }
        }
        Ok(means)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Spacing;
    use ndarray::{Array3, s};

    fn volume(data: Array3<u8>) -> LabelMap {
        Volume::new(
            data,
            Affine::from_spacing(Spacing::new(10.0, 10.0, 10.0).unwrap()),
        )
        .unwrap()
    }

    /// A cube with a cavity and a stray voxel, against the full cube.
    fn case(stray: bool, cavity: bool) -> (LabelMap, LabelMap) {
        let mut truth = Array3::<u8>::zeros((9, 9, 9));
        truth.slice_mut(s![2..7, 2..7, 2..7]).fill(1);
        let mut found = truth.clone();
        found[[8, 8, 8]] = u8::from(stray);
        found[[4, 4, 4]] = u8::from(!cavity);
        (volume(found), volume(truth))
    }

    #[test]
    fn takes_what_helps_and_nothing_else() {
        let steps = |cases: &[_]| {
            determine_postprocessing(cases, &[1])
                .unwrap()
                .postprocessing
                .steps
        };
        assert_eq!(steps(&[case(false, false), case(false, false)]), []);
        assert_eq!(
            steps(&[case(true, true), case(false, false)]),
            [Step::KeepLargest { labels: vec![1] }, Step::FillHoles]
        );
        assert_eq!(steps(&[case(false, true)]), [Step::FillHoles]);
        // Two parts that are both right: the largest component alone would lose one; dropping what is
        // below 5 ml (a voxel has 1 ml) only loses the stray voxels, and 20 ml a part of 8 ml.
        let (mut found, mut truth) = case(true, false);
        truth.data_mut().slice_mut(s![0..2, 0..2, 0..2]).fill(1);
        found.data_mut().slice_mut(s![0..2, 0..2, 0..2]).fill(1);
        truth.data_mut()[[2, 2, 2]] = 0;
        found.data_mut()[[2, 2, 2]] = 0;
        let decided = determine_postprocessing(&[(found, truth)], &[1]).unwrap();
        assert!(!decided.trials[0].accepted);
        assert_eq!(
            decided.postprocessing.steps,
            [Step::MinimumVolume { ml: 5.0 }]
        );
    }
}
