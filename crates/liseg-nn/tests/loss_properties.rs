//! What must hold of losses and gradients whatever the numbers.

use liseg_nn::loss::{DiceCrossEntropy, Target};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Parameters, clip_gradients};
use proptest::prelude::*;

const VOXELS: usize = 2 * 3 * 4;

fn logits(values: &[f32], samples: i64) -> Tensor {
    Tensor::from_slice(values).view([samples, 2, 2, 3, 4])
}

fn labels(values: &[bool], samples: i64) -> Tensor {
    let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
    Tensor::from_slice(&values).view([samples, 2, 3, 4])
}

fn total(logits: &Tensor, label: &Tensor, valid: Option<Tensor>) -> Tensor {
    let target = Target {
        label: label.shallow_clone(),
        valid,
    };
    DiceCrossEntropy::default()
        .terms(logits, &target)
        .unwrap()
        .total
}

proptest! {
    #[test]
    fn a_constant_on_all_classes_changes_nothing(
        values in prop::collection::vec(-4.0f32..4.0, 2 * VOXELS),
        label in prop::collection::vec(any::<bool>(), VOXELS),
        constant in -20.0f64..20.0,
    ) {
        let (l, y) = (logits(&values, 1), labels(&label, 1));
        let (a, b) = (total(&l, &y, None), total(&(&l + constant), &y, None));
        prop_assert!((a.double_value(&[]) - b.double_value(&[])).abs() < 1e-4);
    }

    #[test]
    fn voxels_outside_get_no_gradient_and_have_no_say(
        values in prop::collection::vec(-4.0f32..4.0, 2 * VOXELS),
        label in prop::collection::vec(any::<bool>(), VOXELS),
        inside in prop::collection::vec(any::<bool>(), VOXELS),
    ) {
        let l = logits(&values, 1).set_requires_grad(true);
        let valid = Tensor::from_slice(&inside).view([1, 2, 3, 4]);
        let y = labels(&label, 1);
        let loss = total(&l, &y, Some(valid.shallow_clone()));
        loss.backward();
        let outside = valid.logical_not().unsqueeze(1).to_kind(Kind::Float);
        prop_assert_eq!((l.grad() * outside).abs().max().double_value(&[]), 0.0);
        // Other labels there make no difference.
        let flipped = y.where_self(&valid, &(1 - &y));
        let same = total(&l.detach(), &flipped, Some(valid));
        prop_assert_eq!(loss.double_value(&[]), same.double_value(&[]));
    }

    #[test]
    fn one_sample_is_its_own_batch(
        values in prop::collection::vec(-4.0f32..4.0, 2 * VOXELS),
        label in prop::collection::vec(any::<bool>(), VOXELS),
    ) {
        let target = Target { label: labels(&label, 1), valid: None };
        let per_sample = DiceCrossEntropy::default();
        let whole = DiceCrossEntropy { batch_dice: true, ..per_sample };
        let l = logits(&values, 1);
        let (a, b) = (per_sample.terms(&l, &target).unwrap(), whole.terms(&l, &target).unwrap());
        prop_assert!((a.total.double_value(&[]) - b.total.double_value(&[])).abs() < 1e-6);
    }

    #[test]
    fn clipped_gradients_are_short_enough(
        values in prop::collection::vec(-50.0f32..50.0, 8), limit in 0.01f64..100.0,
    ) {
        let mut p = Parameters::new(Device::Cpu);
        let w = p.add("w", Tensor::zeros([8], (Kind::Float, Device::Cpu))).unwrap();
        (&w * Tensor::from_slice(&values)).sum(Kind::Float).backward();
        let before = w.grad().norm().double_value(&[]);
        let reported = clip_gradients(&p, limit).unwrap();
        prop_assert!((reported.0 - before).abs() <= 1e-5 * (1.0 + before));
        prop_assert!(w.grad().norm().double_value(&[]) <= limit.max(before.min(limit)) * (1.0 + 1e-5));
    }
}

#[test]
fn gradients_that_are_no_numbers_are_reported_and_left_alone() {
    let mut p = Parameters::new(Device::Cpu);
    let w = p.add("w", Tensor::from_slice(&[1.0f32, 2.0])).unwrap();
    (&w * Tensor::from_slice(&[f32::NAN, 100.0]))
        .sum(Kind::Float)
        .backward();
    assert!(!clip_gradients(&p, 1.0).unwrap().is_finite());
    assert_eq!(w.grad().double_value(&[1]), 100.0);
}

#[test]
fn a_perfect_prediction_costs_minus_one() {
    let label: Vec<bool> = (0..VOXELS).map(|i| i % 3 == 0).collect();
    let y = labels(&label, 1);
    let sure = (y.to_kind(Kind::Float) * 2.0 - 1.0).unsqueeze(1) * 50.0;
    let l = Tensor::cat(&[-&sure, sure], 1);
    assert!((total(&l, &y, None).double_value(&[]) + 1.0).abs() < 1e-5);
}
