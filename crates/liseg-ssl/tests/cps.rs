//! What always holds for cross pseudo supervision.

use crate::common::{Table, images};
use liseg_nn::loss::DiceCrossEntropy;
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use liseg_ssl::{
    Batch, Cps, CpsConfig, Labelled, Progress, Reduction, Scope, Sentinel, StepContext, Strategy,
    Supervised, SupervisedConfig, Unlabelled, Views, toggled_boxes,
};
use liseg_volume::Seed;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

const LABELLED: i64 = 2;
const ALL: i64 = 5;
const SHAPE: [i64; 5] = [ALL, 2, 1, 2, 3];
const ITERATION: u64 = 5;

fn batch(label: &Tensor, logits: &Tensor) -> Batch {
    let all = logits.size()[0];
    Batch {
        labelled: Some(Labelled {
            image: images(0, LABELLED, logits),
            label: label.shallow_clone(),
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: images(LABELLED, all, logits),
            strong: vec![],
            valid: None,
        }),
    }
}

fn config(weight: f64, reduction: Reduction) -> CpsConfig {
    CpsConfig {
        labelled: LABELLED as usize,
        unlabelled: (ALL - LABELLED) as usize,
        weight,
        reduction,
        ramp: 0.0,
        loss: DiceCrossEntropy::cross_entropy(),
        ..CpsConfig::default()
    }
}

/// A table with one sample more, never asked for, so that networks with equal logits still differ.
fn network(logits: &Tensor, spare: f64) -> Box<dyn SegmentationNet> {
    let spare = logits.narrow(0, 0, 1) * 0.0 + spare;
    Table::boxed(&Tensor::cat(&[logits, &spare], 0))
}

fn context(micro_batch: usize, seed: u64) -> StepContext {
    let progress = Progress {
        iteration: ITERATION,
        iterations: 10,
    };
    StepContext::new(progress, micro_batch).with_seed(Seed(seed))
}

struct Step {
    gradients: [Tensor; 2],
    log: std::collections::BTreeMap<&'static str, f64>,
}

fn step(config: &CpsConfig, (a, b): (&Tensor, &Tensor), batch: &Batch, micro: usize) -> Step {
    let networks = [network(a, 0.0), network(b, 1.0)];
    let mut cps = Cps::new(config.clone(), networks, OptimiserConfig::adam()).unwrap();
    let mut context = context(micro, 1);
    cps.step(batch, &mut context).unwrap();
    let of = |i: usize| {
        let parameters = cps.learners()[i].network().parameters();
        let grad = parameters.get("logits").unwrap().grad();
        grad.narrow(0, 0, a.size()[0])
    };
    Step {
        gradients: [of(0), of(1)],
        log: context.log().unwrap(),
    }
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    (a - b).abs().max().double_value(&[]) < 1e-6
}

fn logits() -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(-3.0f32..3.0, 60)
        .prop_map(|values| Tensor::from_slice(&values).view(SHAPE))
}

fn labels() -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(0i64..2, 12)
        .prop_map(|values| Tensor::from_slice(&values).view([LABELLED, 1, 2, 3]))
}

/// λ-free pseudo-supervision of network A: (p_a − one-hot ŷ_b) / voxels of a patch.
fn by_hand(a: &Tensor, b: &Tensor) -> Tensor {
    let p = a.softmax(1, Kind::Float);
    let target = p.zeros_like().scatter_value(1, &b.argmax(1, true), 1.0);
    (p - target) / 6.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(3)))]

    #[test]
    fn swapping_the_networks_swaps_losses_and_gradients(a in logits(), b in logits(), y in labels()) {
        let config = config(1.5, Reduction::Joint);
        let one = step(&config, (&a, &b), &batch(&y, &a), 5);
        let other = step(&config, (&b, &a), &batch(&y, &a), 5);
        prop_assert!(one.gradients[0].equal(&other.gradients[1]));
        prop_assert!(one.gradients[1].equal(&other.gradients[0]));
        for (name, twin) in [("supervised", "supervised_b"), ("pseudo", "pseudo_b")] {
            prop_assert_eq!(one.log[name], other.log[twin]);
        }
        prop_assert_eq!(one.log["agreement"], other.log["agreement"]);
    }

    #[test]
    fn gradients_are_those_of_the_own_terms_alone(a in logits(), b in logits(), y in labels()) {
        // On unlabelled patches nothing else contributes: no gradient passes through a label.
        let found = step(&config(1.5, Reduction::Sum), (&a, &b), &batch(&y, &a), 2);
        let unlabelled = |t: &Tensor| t.narrow(0, LABELLED, ALL - LABELLED);
        let count = (ALL - LABELLED) as f64;
        for (gradient, hand) in found.gradients.iter().zip([by_hand(&a, &b), by_hand(&b, &a)]) {
            prop_assert!(close(&unlabelled(gradient), &(unlabelled(&hand) * 1.5 / count)));
        }
    }

    #[test]
    fn equal_networks_teach_themselves_and_never_part(a in logits(), y in labels()) {
        let found = step(&config(1.5, Reduction::Joint), (&a, &a), &batch(&y, &a), 1);
        prop_assert!(found.gradients[0].equal(&found.gradients[1]));
        let surprise = a.narrow(0, LABELLED, ALL - LABELLED)
            .log_softmax(1, Kind::Float).amax([1i64].as_slice(), false).mean(Kind::Float);
        prop_assert!((found.log["pseudo"] + surprise.double_value(&[])).abs() < 1e-5);
        let networks = [network(&a, 0.0), network(&a, 1.0)];
        let mut cps = Cps::new(config(1.5, Reduction::Joint), networks, OptimiserConfig::adam()).unwrap();
        for _ in 0..3 {
            cps.step(&batch(&y, &a), &mut context(5, 1)).unwrap();
            cps.optimise(0.1, 12.0).unwrap();
        }
        let twins = |s: &Sentinel| s.term == "agreement" && s.is_troubled(found.log["agreement"]);
        prop_assert!(cps.sentinels().iter().any(twins), "{:?}", found.log);
        let used = |i: usize| cps.learners()[i].network().parameters().get("logits").unwrap().narrow(0, 0, ALL);
        prop_assert!(used(0).equal(&used(1)) && !used(0).equal(&a));
    }

    #[test]
    fn without_weight_it_is_supervised_training(a in logits(), b in logits(), y in labels()) {
        let found = step(&config(0.0, Reduction::Joint), (&a, &b), &batch(&y, &a), 1);
        let control = SupervisedConfig { batch_size: 2, loss: DiceCrossEntropy::cross_entropy() };
        let mut supervised = Supervised::new(control, network(&a, 0.0), OptimiserConfig::adam()).unwrap();
        supervised.step(&batch(&y, &a), &mut context(1, 1)).unwrap();
        let parameters = supervised.learners()[0].network().parameters();
        prop_assert!(close(&found.gradients[0], &parameters.get("logits").unwrap().grad().narrow(0, 0, ALL)));
    }

    #[test]
    fn only_the_hard_label_of_the_other_network_counts(a in logits(), b in logits(), y in labels()) {
        let config = config(1.5, Reduction::Joint);
        let before = step(&config, (&a, &b), &batch(&y, &a), 1);
        let after = step(&config, (&a, &(&b * 3.0)), &batch(&y, &a), 1);
        prop_assert!(before.gradients[0].equal(&after.gradients[0]));
    }

    #[test]
    fn a_constant_on_all_classes_changes_nothing(a in logits(), b in logits(), y in labels()) {
        let config = config(1.5, Reduction::Joint);
        let before = step(&config, (&a, &b), &batch(&y, &a), 1);
        let after = step(&config, (&(&a + 2.0), &b), &batch(&y, &a), 1);
        prop_assert!(close(&before.gradients[0], &after.gradients[0]));
        prop_assert!(close(&before.gradients[1], &after.gradients[1]));
    }

    #[test]
    fn the_joint_mean_weighs_both_means_by_their_patches(a in logits(), b in logits(), y in labels()) {
        let of = |weight, reduction| step(&config(weight, reduction), (&a, &b), &batch(&y, &a), 5).gradients;
        let [none, _] = of(0.0, Reduction::Sum);
        let [sum, _] = of(1.0, Reduction::Sum);
        let [joint, _] = of(1.0, Reduction::Joint);
        let share = LABELLED as f64 / ALL as f64;
        let (of_sum, of_joint) = (sum - &none, joint - &none);
        let part = |t: &Tensor, start, count| t.narrow(0, start, count);
        prop_assert!(close(&part(&of_joint, 0, LABELLED), &(part(&of_sum, 0, LABELLED) * share)));
        let rest = ALL - LABELLED;
        prop_assert!(close(&part(&of_joint, LABELLED, rest), &(part(&of_sum, LABELLED, rest) * (1.0 - share))));
    }

    #[test]
    fn micro_batches_change_nothing_but_memory(a in logits(), b in logits(), y in labels()) {
        let config = config(1.5, Reduction::Joint);
        let whole = step(&config, (&a, &b), &batch(&y, &a), 5);
        let single = step(&config, (&a, &b), &batch(&y, &a), 1);
        prop_assert!(close(&whole.gradients[0], &single.gradients[0]));
    }

    #[test]
    fn the_scope_says_which_patches_are_pseudo_supervised(a in logits(), b in logits(), y in labels()) {
        let of = |apply_to| {
            let config = CpsConfig { apply_to, ..config(1.0, Reduction::Sum) };
            step(&config, (&a, &b), &batch(&y, &a), 5).gradients
        };
        let [labelled, _] = of(Scope::Labelled);
        let [unlabelled, _] = of(Scope::Unlabelled);
        let [both, _] = of(Scope::Both);
        let (first, rest) = ((0, LABELLED), (LABELLED, ALL - LABELLED));
        let part = |t: &Tensor, (start, count)| t.narrow(0, start, count);
        prop_assert!(part(&labelled, rest).abs().max().double_value(&[]) == 0.0);
        prop_assert!(part(&both, rest).equal(&part(&unlabelled, rest)));
        prop_assert!(part(&both, first).equal(&part(&labelled, first)));
    }
}

fn toy(shape: [i64; 3]) -> (Tensor, Tensor, Tensor) {
    let [z, y, x] = shape;
    let voxels = z * y * x;
    let values = |shift: i64| -> Tensor {
        let numbers: Vec<f32> = (0..8 * voxels)
            .map(|i| (((i + shift) * 7919) % 101) as f32 / 25.0 - 2.0)
            .collect();
        Tensor::from_slice(&numbers).view([4, 2, z, y, x])
    };
    let label: Vec<i64> = (0..2 * voxels).map(|i| i64::from(i % 3 == 0)).collect();
    (
        values(0),
        values(37),
        Tensor::from_slice(&label).view([2, z, y, x]),
    )
}

/// One step of CPS with CutMix on the last patches as two halves of one.
fn cutmix(a: &Tensor, b: &Tensor, label: &Tensor, seed: u64) -> [Tensor; 2] {
    let config = CpsConfig {
        unlabelled: 1,
        cutmix: true,
        ..config(1.0, Reduction::Sum)
    };
    let mut cps = Cps::new(
        config,
        [network(a, 0.0), network(b, 1.0)],
        OptimiserConfig::adam(),
    )
    .unwrap();
    assert_eq!(cps.request().unlabelled, 2);
    cps.step(&batch(label, a), &mut context(1, seed)).unwrap();
    [0, 1].map(|i| {
        let parameters = cps.learners()[i].network().parameters();
        parameters.get("logits").unwrap().grad().narrow(0, 0, 4)
    })
}

#[test]
fn cutmix_without_a_box_is_plain_cps_on_the_first_half() {
    let (a, b, label) = toy([1, 1, 1]);
    let empty = |seed: u64| {
        let mut rng = Seed(seed).stream("cps/cutmix", ITERATION, 0);
        let mask = toggled_boxes([1, 1, 1], &mut rng, Device::Cpu).unwrap();
        mask.any().int64_value(&[]) == 0
    };
    let seed = (0..).find(|&seed| empty(seed)).unwrap();
    let mixed = cutmix(&a, &b, &label, seed);
    let plain = CpsConfig {
        unlabelled: 1,
        ..config(1.0, Reduction::Sum)
    };
    let mut first = batch(&label, &a);
    first.unlabelled = Some(first.unlabelled.unwrap().part(0, 1).unwrap());
    let expected = step(&plain, (&a, &b), &first, 1).gradients;
    assert!(close(&mixed[0], &expected[0]) && close(&mixed[1], &expected[1]));
    // With a box over everything the second half is taken.
    let full = (0..).find(|&seed| !empty(seed)).unwrap();
    let mixed = cutmix(&a, &b, &label, full);
    assert!(mixed[0].get(2).abs().max().double_value(&[]) == 0.0);
    assert!(mixed[0].get(3).abs().max().double_value(&[]) > 0.0);
}

#[test]
fn networks_with_views_of_their_own_may_start_equal_and_part() {
    let networks = [crate::common::stunet("a"), crate::common::stunet("a")];
    let config = CpsConfig {
        views: Views::PerNetwork,
        ramp: 0.0,
        ..CpsConfig::default()
    };
    let mut cps = Cps::new(config, networks, OptimiserConfig::adam()).unwrap();
    assert_eq!(cps.request().strong_views, 2);
    cps.step(&crate::common::patches(2, 2), &mut context(2, 1))
        .unwrap();
    cps.optimise(1e-3, 12.0).unwrap();
    let weights = |i: usize| cps.learners()[i].network().parameters();
    let same = weights(0)
        .iter()
        .all(|(name, t)| weights(1).get(name).unwrap().equal(t));
    assert!(!same, "different views leave the networks equal");
}

#[test]
fn two_equal_networks_are_refused() {
    let (a, _, _) = toy([2, 3, 4]);
    let networks = [Table::boxed(&a), Table::boxed(&a)];
    let error = Cps::new(CpsConfig::default(), networks, OptimiserConfig::adam()).unwrap_err();
    assert!(error.to_string().contains("same weights"), "{error}");
}

#[test]
fn settings_out_of_range_are_named() {
    let wrong = [
        (
            CpsConfig {
                labelled: 0,
                ..CpsConfig::default()
            },
            "labelled",
        ),
        (
            CpsConfig {
                weight: -1.0,
                ..CpsConfig::default()
            },
            "weight",
        ),
        (
            CpsConfig {
                ramp: 1.5,
                ..CpsConfig::default()
            },
            "ramp",
        ),
        (
            CpsConfig {
                cutmix: true,
                views: Views::PerNetwork,
                ..CpsConfig::default()
            },
            "exclude",
        ),
    ];
    let (a, b, _) = toy([1, 1, 1]);
    for (config, part) in wrong {
        let networks = [Table::boxed(&a), Table::boxed(&b)];
        let error = Cps::new(config, networks, OptimiserConfig::adam()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
