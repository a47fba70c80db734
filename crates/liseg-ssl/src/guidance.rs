//! Pseudo labels that two mixtures of the same patches must agree on, and losses over sure voxels.

use crate::region_dice::voxel_cross_entropy;
use crate::{RegionDice, Result, confident_labels, label_and_confidence, paste};
use liseg_nn::tch::{Kind, Tensor};

/// A teacher's opinion of unlabelled patches and of their mixtures with labelled ones.
#[derive(Debug)]
pub struct TeacherLogits {
    /// Of the unlabelled patch, `[n, classes, z, y, x]`.
    pub unlabelled: Tensor,
    /// Of the labelled box pasted into the unlabelled patch.
    pub labelled_inside: Tensor,
    /// Of the unlabelled box pasted into the labelled patch.
    pub unlabelled_inside: Tensor,
}

/// What a teacher says of unlabelled voxels, once directly and once from two mixtures. All maps are
/// `[n, z, y, x]`: labels int64, the others bool.
#[derive(Debug)]
pub struct Guidance {
    /// ŷ_u, the label seen in the whole patch.
    pub pseudo: Tensor,
    /// The probability of that label.
    pub confidence: Tensor,
    /// m_u, whether that is sure.
    pub sure: Tensor,
    /// ŷ_s, the label put together from the unlabelled regions of both mixtures.
    pub symmetric: Tensor,
    /// m_s, whether all are sure and both labels are the same.
    pub symmetric_sure: Tensor,
}

impl Guidance {
    /// Symmetric guidance (Ma et al., CVPR 2024). `inside` is the box of every sample, bool
    /// `[n, z, y, x]`; a voxel is sure when its largest probability is above `threshold`.
    ///
    /// ŷ_s = ŷ_ul outside the box and ŷ_lu inside; m_s = (m_ul outside, m_lu inside) · \[ŷ_s = ŷ_u\] · m_u
    ///
    /// # Errors
    /// When shapes do not fit or libtorch fails.
    pub fn new(teacher: &TeacherLogits, inside: &Tensor, threshold: f64) -> Result<Self> {
        let (pseudo, confidence) = label_and_confidence(&teacher.unlabelled)?;
        let sure = confidence.f_gt(threshold)?;
        let (label_ul, sure_ul) = confident_labels(&teacher.labelled_inside, threshold)?;
        let (label_lu, sure_lu) = confident_labels(&teacher.unlabelled_inside, threshold)?;
        let symmetric = paste(&label_ul, &label_lu, inside)?;
        let symmetric_sure = paste(&sure_ul, &sure_lu, inside)?
            .f_logical_and(&symmetric.f_eq_tensor(&pseudo)?)?
            .f_logical_and(&sure)?;
        Ok(Self {
            pseudo,
            confidence,
            sure,
            symmetric,
            symmetric_sure,
        })
    }

    /// Counts only voxels inside the scanned volume as sure.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn within(mut self, valid: Option<&Tensor>) -> Result<Self> {
        if let Some(valid) = valid {
            self.sure = self.sure.f_logical_and(valid)?;
            self.symmetric_sure = self.symmetric_sure.f_logical_and(valid)?;
        }
        Ok(self)
    }
}

/// U(q, y, m) = mean(ℓ(q, y) · m) + Dice_m(q, y), a scalar with gradient. The mean is over all
/// voxels, not over those of m alone: a teacher that is sure of little teaches little.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn masked_loss(
    logits: &Tensor,
    label: &Tensor,
    mask: &Tensor,
    dice: RegionDice,
) -> Result<Tensor> {
    let log_p = logits.f_log_softmax(1, Kind::Float)?;
    let cross_entropy = voxel_cross_entropy(&log_p, label)?
        .f_mul(&mask.f_to_kind(Kind::Float)?)?
        .f_mean(Kind::Float)?;
    let dice = dice.loss(&log_p.f_exp()?, label, Some(mask))?;
    Ok(cross_entropy.f_add(&dice)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_nn::tch::Device;
    use proptest::prelude::*;

    const SHAPE: [i64; 5] = [1, 2, 2, 3, 4];

    fn logits() -> impl Strategy<Value = Tensor> {
        proptest::collection::vec(-6.0f32..6.0, 48)
            .prop_map(|values| Tensor::from_slice(&values).view(SHAPE))
    }

    fn mask() -> impl Strategy<Value = Tensor> {
        proptest::collection::vec(any::<bool>(), 24)
            .prop_map(|bits| Tensor::from_slice(&bits).view([1, 2, 3, 4]))
    }

    fn all(t: &Tensor) -> bool {
        t.all().int64_value(&[]) != 0
    }

    proptest! {
        #[test]
        fn symmetric_guidance_is_a_part_of_what_is_sure(
            (a, b, c) in (logits(), logits(), logits()),
            inside in mask(),
            threshold in 0.4f64..1.0,
        ) {
            let teacher = TeacherLogits {
                unlabelled: a,
                labelled_inside: b,
                unlabelled_inside: c,
            };
            let g = Guidance::new(&teacher, &inside, threshold).unwrap();
            let differs = g.symmetric.ne_tensor(&g.pseudo);
            prop_assert!(all(&g.symmetric_sure.logical_not().logical_or(&g.sure)));
            prop_assert!(all(&g.symmetric_sure.logical_and(&differs).logical_not()));
            // Exchanging the mixtures and the box changes nothing.
            let exchanged = TeacherLogits {
                unlabelled: teacher.unlabelled,
                labelled_inside: teacher.unlabelled_inside,
                unlabelled_inside: teacher.labelled_inside,
            };
            let h = Guidance::new(&exchanged, &inside.logical_not(), threshold).unwrap();
            prop_assert!(h.symmetric.equal(&g.symmetric) && h.symmetric_sure.equal(&g.symmetric_sure));
        }

        #[test]
        fn below_chance_all_is_sure_and_at_one_nothing((a, b, c) in (logits(), logits(), logits()), inside in mask()) {
            let teacher = TeacherLogits { unlabelled: a, labelled_inside: b, unlabelled_inside: c };
            let g = Guidance::new(&teacher, &inside, 0.49).unwrap();
            prop_assert!(all(&g.sure));
            let g = Guidance::new(&teacher, &inside, 1.0).unwrap();
            prop_assert!(!all(&g.sure) && all(&g.sure.logical_not()));
            let loss = masked_loss(&teacher.unlabelled, &g.symmetric, &g.symmetric_sure, RegionDice::BatchSquare);
            prop_assert!(loss.unwrap().double_value(&[]).abs() < 1e-6);
        }

        #[test]
        fn voxels_that_are_not_sure_get_no_gradient(a in logits(), bits in mask()) {
            let student = a.set_requires_grad(true);
            let label = Tensor::zeros([1, 2, 3, 4], (Kind::Int64, Device::Cpu));
            masked_loss(&student, &label, &bits, RegionDice::BatchSquare).unwrap().backward();
            let outside = bits.logical_not().to_kind(Kind::Float).unsqueeze(1);
            prop_assert!((student.grad() * outside).abs().max().double_value(&[]) == 0.0);
        }
    }
}
