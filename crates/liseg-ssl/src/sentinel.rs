//! What to look out for while a strategy trains.

use crate::{Learner, Result, Teacher};
use liseg_nn::SegmentationNet;
use liseg_nn::tch::{Kind, no_grad_guard};

/// Where a logged quantity means trouble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Below the number.
    Below(f64),
    /// Above the number.
    Above(f64),
}

/// A logged quantity that means trouble when its mean over an epoch stays out of bounds.
///
/// A strategy names what can go wrong with it; the trainer watches, warns and, where it was told to,
/// stops. The message says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentinel {
    /// The logged quantity, as in [`StepContext::record`](crate::StepContext::record) or
    /// [`Strategy::vitals`](crate::Strategy::vitals).
    pub term: &'static str,
    /// Where it means trouble.
    pub trouble: Trouble,
    /// Epochs in a row before it is said.
    pub epochs: u32,
    /// What is wrong, and what to do.
    pub message: &'static str,
}

impl Sentinel {
    /// Whether a value means trouble. What is no number always does.
    pub fn is_troubled(&self, value: f64) -> bool {
        match self.trouble {
            Trouble::Below(bound) => value.is_nan() || value < bound,
            Trouble::Above(bound) => value.is_nan() || value > bound,
        }
    }

    /// Pseudo labels without foreground: the student is taught that there is no liver.
    pub fn empty_pseudo_labels() -> Self {
        Self {
            term: "pseudo_foreground",
            trouble: Trouble::Below(1e-5),
            epochs: 2,
            message: "the pseudo labels hold no foreground, so the unlabelled patches teach that there \
                      is none; start from weights that find the organ (network.weights), such as those of \
                      a supervised run on the same labels",
        }
    }

    /// The same for a strategy whose pseudo-supervision rises over a `ramp`.
    pub fn empty_ramped_pseudo_labels() -> Self {
        Self {
            message: "the pseudo labels hold no foreground, so the unlabelled patches teach that there \
                      is none; let the pseudo-supervision rise more slowly (strategy.ramp), or start from \
                      weights that find the organ (network.weights), such as those of a supervised run on \
                      the same labels",
            ..Self::empty_pseudo_labels()
        }
    }

    /// Pseudo labels that are foreground nearly everywhere.
    pub fn flooded_pseudo_labels() -> Self {
        Self {
            term: "pseudo_foreground",
            trouble: Trouble::Above(0.95),
            epochs: 2,
            message: "nearly every voxel of the pseudo labels is foreground; start from weights that \
                      find the organ, or lower training.learning_rate",
        }
    }

    /// A teacher that is sure of nothing.
    pub fn no_confidence() -> Self {
        Self {
            term: "confident",
            trouble: Trouble::Below(1e-4),
            epochs: 3,
            message: "the teacher is sure of no voxel, so unlabelled patches teach nothing; lower \
                      strategy.threshold or train longer on labels first",
        }
    }
}

/// ‖θ_a − θ_b‖ / ‖θ_a‖ over all parameters, paired by name; those that one lacks are left out.
///
/// # Errors
/// When libtorch fails.
pub fn relative_distance(a: &dyn SegmentationNet, b: &dyn SegmentationNet) -> Result<f64> {
    let _guard = no_grad_guard();
    let (mut apart, mut size) = (0.0, 0.0);
    for (name, ours) in a.parameters().iter() {
        let Some(theirs) = b.parameters().get(name) else {
            continue;
        };
        let squares = |t: &liseg_nn::tch::Tensor| -> Result<f64> {
            Ok(t.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?)
        };
        apart += squares(&ours.f_sub(theirs)?)?;
        size += squares(ours)?;
    }
    Ok(if size > 0.0 {
        (apart / size).sqrt()
    } else {
        0.0
    })
}

/// How far the second learner and the teachers are from the first learner, by name.
pub(crate) fn distances(
    learners: &[Learner],
    teachers: &[Teacher],
) -> Result<Vec<(&'static str, f64)>> {
    let Some((first, others)) = learners.split_first() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if let Some(second) = others.first() {
        let distance = relative_distance(first.network(), second.network())?;
        found.push(("network_distance", distance));
    }
    if let Some(teacher) = teachers.first() {
        let distance = relative_distance(first.network(), teacher.network())?;
        found.push(("teacher_distance", distance));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_trouble() {
        let sentinel = Sentinel::empty_pseudo_labels();
        assert!(sentinel.is_troubled(0.0) && sentinel.is_troubled(f64::NAN));
        assert!(!sentinel.is_troubled(0.02));
        let flooded = Sentinel::flooded_pseudo_labels();
        assert!(flooded.is_troubled(0.99) && flooded.is_troubled(f64::NAN));
        assert!(!flooded.is_troubled(0.5));
    }
}
