//! What always holds for the other strategies and their pieces, whatever the numbers.

use crate::common::Pointwise;
use liseg_morphology::Connectivity;
use liseg_nn::loss::{DiceCrossEntropy, Target};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use liseg_ssl::{
    AmplitudeAxes, Batch, Bcp, BcpConfig, Decay, Labelled, Midss, MidssConfig, Progress,
    RegionDice, StepContext, Strategy, StrategyConfig, Teacher, Unlabelled, WeakToStrong,
    WeakToStrongConfig, clean, hard_labels, masked_loss, paste, region_cross_entropy, region_loss,
    with_partner,
};
use liseg_volume::Seed;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

const GRID: [i64; 3] = [2, 3, 4];
const VOXELS: usize = 24;

fn logits(n: i64) -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(-4.0f32..4.0, 2 * VOXELS * n as usize)
        .prop_map(move |v| Tensor::from_slice(&v).view([n, 2, 2, 3, 4]))
}

fn labels(n: i64) -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(0i64..2, VOXELS * n as usize)
        .prop_map(move |v| Tensor::from_slice(&v).view([n, 2, 3, 4]))
}

fn images(n: i64) -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(-2.0f32..2.0, VOXELS * n as usize)
        .prop_map(move |v| Tensor::from_slice(&v).view([n, 1, 2, 3, 4]))
}

fn mask() -> impl proptest::strategy::Strategy<Value = Tensor> {
    proptest::collection::vec(any::<bool>(), VOXELS).prop_map(|v| Tensor::from_slice(&v).view(GRID))
}

fn number(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn one_hot(label: &Tensor) -> Tensor {
    label
        .one_hot(2)
        .permute([0, 4, 1, 2, 3])
        .to_kind(Kind::Float)
}

const DICE: [RegionDice; 4] = [
    RegionDice::SampleLinear,
    RegionDice::BatchSquare,
    RegionDice::BatchSquareBackgroundUnmasked,
    RegionDice::BatchSquareEps5,
];

fn batch(x: &Tensor, y: &Tensor, u: &Tensor, strong: Vec<Tensor>) -> Batch {
    Batch {
        labelled: Some(Labelled {
            image: x.shallow_clone(),
            label: y.shallow_clone(),
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: u.shallow_clone(),
            strong,
            valid: None,
        }),
    }
}

fn context(iteration: u64) -> StepContext {
    let progress = Progress {
        iteration,
        iterations: 10,
    };
    StepContext::new(progress, 2).with_seed(Seed(4))
}

fn pair() -> [Box<dyn SegmentationNet>; 2] {
    [0, 1].map(|_| Pointwise::boxed([-1.0, 1.5], [0.2, -0.1]))
}

fn gradient(strategy: &dyn Strategy) -> Tensor {
    let parameters = strategy.learners()[0].network().parameters();
    let of = |name| parameters.get(name).unwrap().grad().view([-1]);
    Tensor::cat(&[of("weight"), of("bias")], 0)
}

fn step(mut strategy: impl Strategy, batch: &Batch) -> (Tensor, Log) {
    let mut context = context(9);
    strategy.step(batch, &mut context).unwrap();
    (gradient(&strategy), context.log().unwrap())
}

type Log = std::collections::BTreeMap<&'static str, f64>;

fn midss(config: MidssConfig, batch: &Batch) -> (Tensor, Log) {
    step(
        Midss::new(config, pair(), OptimiserConfig::adam()).unwrap(),
        batch,
    )
}

fn weak_to_strong(config: WeakToStrongConfig, batch: &Batch) -> (Tensor, Log) {
    step(
        WeakToStrong::new(config, pair(), OptimiserConfig::adam()).unwrap(),
        batch,
    )
}

fn bcp(config: BcpConfig, batch: &Batch) -> (Tensor, Log) {
    step(
        Bcp::new(config, pair(), OptimiserConfig::adam()).unwrap(),
        batch,
    )
}

fn near(a: &Tensor, b: &Tensor) -> bool {
    number(&(a - b).abs().max()) < 1e-5
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(3)))]

    #[test]
    fn dice_losses_lie_between_zero_and_one(x in logits(2), y in labels(2), m in mask()) {
        let p = x.softmax(1, Kind::Float);
        for dice in DICE {
            let loss = number(&dice.loss(&p, &y, Some(&m)).unwrap());
            prop_assert!((-1e-6..=1.0 + 1e-6).contains(&loss), "{dice:?}: {loss}");
            // A certain prediction of the target costs nothing.
            let perfect = number(&dice.loss(&one_hot(&y), &y, None).unwrap());
            prop_assert!(perfect.abs() < 1e-6, "{dice:?}: {perfect}");
        }
    }

    #[test]
    fn dice_losses_do_not_mind_the_names_of_the_classes(x in logits(2), y in labels(2), m in mask()) {
        let p = x.softmax(1, Kind::Float);
        for dice in [RegionDice::SampleLinear, RegionDice::BatchSquare, RegionDice::BatchSquareEps5] {
            let one = number(&dice.loss(&p, &y, Some(&m)).unwrap());
            let other = number(&dice.loss(&p.flip([1]), &(1 - &y), Some(&m)).unwrap());
            prop_assert!((one - other).abs() < 1e-5);
        }
    }

    #[test]
    fn masked_voxels_get_no_gradient_but_in_the_published_form(x in logits(2), y in labels(2), m in mask()) {
        for dice in DICE {
            let leaf = x.copy().set_requires_grad(true);
            dice.loss(&leaf.softmax(1, Kind::Float), &y, Some(&m)).unwrap().backward();
            let outside = m.logical_not().to_kind(Kind::Float);
            let leak = number(&(leaf.grad() * &outside).abs().max());
            let published = dice == RegionDice::BatchSquareBackgroundUnmasked;
            prop_assert!(leak == 0.0 || published, "{dice:?}: {leak}");
        }
    }

    #[test]
    fn for_one_sample_both_means_of_dice_are_the_same(x in logits(1), y in labels(1)) {
        let target = Target { label: y, valid: None };
        let of = |batch_dice| {
            let loss = DiceCrossEntropy { batch_dice, ..DiceCrossEntropy::default() };
            number(&loss.terms(&x, &target).unwrap().total)
        };
        prop_assert!((of(true) - of(false)).abs() < 1e-6);
    }

    #[test]
    fn an_empty_region_costs_nothing_and_a_full_one_all(x in logits(2), y in labels(2)) {
        let nothing = Tensor::zeros(GRID, (Kind::Bool, Device::Cpu));
        prop_assert_eq!(number(&region_loss(&x, &y, &nothing).unwrap()), 0.0);
        let all = region_loss(&x, &y, &nothing.logical_not()).unwrap();
        let log_p = x.log_softmax(1, Kind::Float);
        let p = log_p.exp();
        let dice = RegionDice::SampleLinear.loss(&p, &y, None).unwrap();
        let cross_entropy = log_p.gather(1, &y.unsqueeze(1), false).mean(Kind::Float) * -1.0;
        prop_assert!((number(&all) - 0.5 * number(&(dice + cross_entropy))).abs() < 1e-5);
    }

    #[test]
    fn mixing_labels_commutes_with_one_hot(a in labels(2), b in labels(2), m in mask()) {
        let mixed = one_hot(&paste(&a, &b, &m).unwrap());
        prop_assert!(mixed.equal(&paste(&one_hot(&a), &one_hot(&b), &m).unwrap()));
        // The other mixture is the same with the box turned inside out.
        let turned = paste(&b, &a, &m.logical_not()).unwrap();
        prop_assert!(turned.equal(&paste(&a, &b, &m).unwrap()));
    }

    #[test]
    fn equal_regions_of_equal_weight_make_twice_the_mean(x in logits(2), a in labels(2), b in labels(2)) {
        // Half of the voxels each.
        let inside = Tensor::arange(VOXELS as i64, (Kind::Int64, Device::Cpu)).view(GRID).lt(VOXELS as i64 / 2);
        let log_p = x.log_softmax(1, Kind::Float);
        let outer = region_cross_entropy(&log_p, &a, &inside.logical_not()).unwrap();
        let inner = region_cross_entropy(&log_p, &b, &inside).unwrap();
        let mixed = paste(&a, &b, &inside).unwrap();
        let whole = region_cross_entropy(&log_p, &mixed, &inside.ones_like()).unwrap();
        prop_assert!((number(&(outer + inner)) - 2.0 * number(&whole)).abs() < 1e-4);
    }

    #[test]
    fn the_order_of_samples_does_not_matter(x in logits(3), y in labels(3), m in mask()) {
        let order = Tensor::from_slice(&[2i64, 0, 1]);
        let permuted = |t: &Tensor| t.index_select(0, &order);
        let one = number(&region_loss(&x, &y, &m).unwrap());
        let other = number(&region_loss(&permuted(&x), &permuted(&y), &m).unwrap());
        prop_assert!((one - other).abs() < 1e-5);
    }

    #[test]
    fn cleaning_follows_flips(y in labels(1), axis in 1i64..4) {
        let connectivity = Connectivity::Face;
        let largest = clean(&y, connectivity).unwrap();
        let second = clean(&(&y - &largest), connectivity).unwrap();
        let size = |t: &Tensor| t.sum(Kind::Int64).int64_value(&[]);
        prop_assume!(size(&largest) > size(&second));
        let flipped = clean(&y.flip([axis]), connectivity).unwrap();
        prop_assert!(flipped.equal(&largest.flip([axis])));
    }

    #[test]
    fn without_its_weight_the_teacher_of_bcp_has_no_say(
        x in images(2), y in labels(2), u in images(2), v in images(2),
    ) {
        let config = || BcpConfig { u_weight: 0.0, pretraining: 0.0, ..BcpConfig::default() };
        // The network sees single voxels, so only voxels that count can change its gradient.
        let (one, _) = bcp(config(), &batch(&x, &y, &u, vec![]));
        let (other, _) = bcp(config(), &batch(&x, &y, &v, vec![]));
        prop_assert!(near(&one, &other));
    }

    #[test]
    fn a_box_of_nothing_or_all_leaves_one_side_of_each_mixture(
        x in images(2), y in labels(2), u in images(2), box_share in prop::sample::select(vec![0.0, 1.0]),
    ) {
        let config = BcpConfig { box_share, pretraining: 0.0, ..BcpConfig::default() };
        let (found, log) = bcp(config, &batch(&x, &y, &u, vec![]));
        let [network, _] = pair();
        let whole = |image: &Tensor, label: &Tensor, sample: i64| {
            let of = |t: &Tensor| t.narrow(0, sample, 1);
            let label = of(label);
            region_loss(&network.forward(&of(image)).unwrap(), &label, &label.ones_like()).unwrap()
        };
        let pseudo = hard_labels(&network.forward(&u).unwrap()).unwrap();
        let pseudo = clean(&pseudo, BcpConfig::default().connectivity).unwrap();
        // M = 1: x_la in the first mixture and x_ub in the second; M = 0: x_ua and x_lb. Terms of the other
        // region are exactly 0, whatever α is.
        let (first, second) = match box_share {
            0.0 => (whole(&x, &y, 0), whole(&u, &pseudo, 1) * 0.5),
            _ => (whole(&u, &pseudo, 0) * 0.5, whole(&x, &y, 1)),
        };
        prop_assert!((log["mixed_in"] - number(&first)).abs() < 1e-5);
        prop_assert!((log["mixed_out"] - number(&second)).abs() < 1e-5);
        (first + second).backward();
        let of = |name| network.parameters().get(name).unwrap().grad().view([-1]);
        prop_assert!(near(&found, &Tensor::cat(&[of("weight"), of("bias")], 0)));
    }

    #[test]
    fn the_order_of_pairs_does_not_matter_to_bcp(x in images(4), y in labels(4), u in images(4)) {
        let config = || BcpConfig { patches: 4, pretraining: 0.0, ..BcpConfig::default() };
        // Halves a and b of two patches each, exchanged within.
        let order = Tensor::from_slice(&[1i64, 0, 3, 2]);
        let other = |t: &Tensor| t.index_select(0, &order);
        let (one, log) = bcp(config(), &batch(&x, &y, &u, vec![]));
        let (two, other_log) = bcp(config(), &batch(&other(&x), &other(&y), &other(&u), vec![]));
        prop_assert!(near(&one, &two));
        prop_assert!((log["mixed_in"] - other_log["mixed_in"]).abs() < 1e-5);
    }

    #[test]
    fn without_weight_midss_is_supervised(x in images(2), y in labels(2), u in images(2), s in images(2)) {
        let config = || MidssConfig { weight: 0.0, ..MidssConfig::default() };
        let (one, log) = midss(config(), &batch(&x, &y, &u, vec![s.shallow_clone()]));
        let (other, _) = midss(config(), &batch(&x, &y, &(&u + 1.0), vec![&s * 2.0]));
        prop_assert!(one.equal(&other) && !log.contains_key("guided_strong"));
        let [network, _] = pair();
        let logits = network.forward(&x).unwrap();
        masked_loss(&logits, &y, &y.ones_like(), RegionDice::BatchSquare).unwrap().backward();
        let of = |name| network.parameters().get(name).unwrap().grad().view([-1]);
        prop_assert!(near(&one, &Tensor::cat(&[of("weight"), of("bias")], 0)));
    }

    #[test]
    fn a_teacher_that_is_never_sure_leaves_the_labelled_voxels(
        x in images(2), y in labels(2), u in images(2), (s, t) in (images(2), images(2)),
    ) {
        let config = || MidssConfig { threshold: 1.0, amplitude_axes: AmplitudeAxes::Off, ..MidssConfig::default() };
        let (one, log) = midss(config(), &batch(&x, &y, &u, vec![s]));
        let (other, _) = midss(config(), &batch(&x, &y, &u, vec![t]));
        prop_assert!(near(&one, &other));
        prop_assert!(log["guided_strong"].abs() < 1e-6 && log["confident"] == 0.0);
    }

    #[test]
    fn without_a_box_midss_learns_styled_labels_and_strong_views(
        x in images(2), y in labels(2), u in images(2), s in images(2),
    ) {
        let config = MidssConfig {
            box_probability: 0.0,
            amplitude_axes: AmplitudeAxes::Off,
            threshold: 0.4,
            ..MidssConfig::default()
        };
        let (_, log) = midss(config, &batch(&x, &y, &u, vec![s]));
        // x_f = x_l without amplitude mixing, and a threshold below chance is always met: labels and
        // pseudo labels cover whole patches, and both mixtures of the strong view are the same.
        prop_assert!((log["mixed_unlabelled_inside"] - log["supervised"]).abs() < 1e-5);
        prop_assert!((log["mixed_labelled_inside"] - log["guided_strong"]).abs() < 1e-5);
        prop_assert_eq!(log["confident"], 1.0);
    }

    #[test]
    fn targets_inside_the_labelled_region_are_the_labels(y in labels(2), a in labels(2), m in mask()) {
        let target = paste(&a, &y, &m).unwrap();
        let differs = target.ne_tensor(&y).logical_and(&m);
        prop_assert_eq!(differs.any().int64_value(&[]), 0);
    }

    #[test]
    fn without_a_sure_voxel_only_labels_teach(
        x in images(2), y in labels(2), u in images(2), s in images(2),
    ) {
        let config = |weight| WeakToStrongConfig { threshold: 1.0, weight, ..WeakToStrongConfig::default() };
        let views = || vec![s.shallow_clone(), &s * 0.5];
        let (with, log) = weak_to_strong(config(1.0), &batch(&x, &y, &u, views()));
        let (without, _) = weak_to_strong(config(0.0), &batch(&x, &y, &u, views()));
        prop_assert!(near(&with, &without) && log["strong_1"] == 0.0 && log["strong_2"] == 0.0);
    }

    #[test]
    fn a_full_box_takes_everything_from_the_partner(a in labels(3)) {
        let full = Tensor::ones(GRID, (Kind::Bool, Device::Cpu));
        prop_assert!(with_partner(&a, &full).unwrap().equal(&a.flip([0])));
        prop_assert!(with_partner(&a, &full.logical_not()).unwrap().equal(&a));
    }

    #[test]
    fn averages_have_their_closed_form_and_lie_between(
        values in proptest::collection::vec(-2.0f32..2.0, 5), rate in 0.0f64..=1.0,
    ) {
        let network = |value: f32| Pointwise::boxed([value; 2], [-value; 2]);
        let start = network(values[0]);
        let mut teacher = Teacher::copy_of(start.as_ref(), "teacher", network(9.0)).unwrap();
        let n = values.len() as i32 - 1;
        let mut expected = rate.powi(n) * f64::from(values[0]);
        for (i, &value) in values[1..].iter().enumerate() {
            let student = network(value);
            teacher.follow(student.as_ref(), rate).unwrap();
            expected += (1.0 - rate) * rate.powi(n - 1 - i as i32) * f64::from(value);
            // The student is left alone, and nothing is recorded.
            let weight = student.parameters().get("weight").unwrap();
            prop_assert_eq!(weight.double_value(&[0, 0, 0, 0, 0]) as f32, value);
            prop_assert!(!weight.grad().defined());
        }
        let found = teacher.network().parameters().get("weight").unwrap().double_value(&[0, 0, 0, 0, 0]);
        prop_assert!((found - expected).abs() < 1e-5, "{} {}", found, expected);
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        prop_assert!(f64::from(low) - 1e-5 <= found && found <= f64::from(high) + 1e-5);
    }
}

proptest! {
    // Every strategy in every case: a few suffice.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(10)))]

    #[test]
    fn padding_changes_nothing(
        (x, y, u) in (images(4), labels(4), images(4)),
        (s, t) in (images(4), images(4)),
        (elsewhere, other_labels) in (images(4), labels(4)),
        valid in proptest::collection::vec(prop::bool::weighted(0.7), 8 * VOXELS),
    ) {
        let valid = Tensor::from_slice(&valid).view([2, 4, 2, 3, 4]);
        let scanned = |part: i64| valid.get(part);
        // Outside the scanned volume everything is another.
        let elsewhere_in = |image: &Tensor, part| image.where_self(&scanned(part).unsqueeze(1), &elsewhere);
        let make = |changed: bool| {
            let image = |image: &Tensor, part| if changed { elsewhere_in(image, part) } else { image.copy() };
            let labels = if changed { y.where_self(&scanned(0), &other_labels) } else { y.copy() };
            let strong = vec![image(&s, 1), image(&t, 1)];
            let mut batch = batch(&image(&x, 0), &labels, &image(&u, 1), strong);
            batch.labelled.as_mut().unwrap().valid = Some(scanned(0));
            batch.unlabelled.as_mut().unwrap().valid = Some(scanned(1));
            batch
        };
        for (name, settings) in [
            ("supervised", "batch_size = 4"),
            ("cps", ""),
            ("cps", "cutmix = true"),
            ("cps", "views = \"per-network\""),
            ("bcp", "patches = 4\npretraining = 0.0"),
            ("bcp", "patches = 4\npretraining = 1.0"),
            ("bcp", "patches = 4\npretraining = 0.0\nconnectivity = \"face\""),
            ("midss", "amplitude_axes = \"off\"\nthreshold = 0.6"),
            ("mean-teacher", ""),
            ("weak-to-strong", "threshold = 0.6\nunlabelled_dice = true"),
        ] {
            let config: StrategyConfig = toml::from_str(&format!("name = \"{name}\"\n{settings}")).unwrap();
            let run = |batch: &Batch| {
                let mut networks = 0.0;
                let mut strategy = config.build(OptimiserConfig::adam(), &mut |_| {
                    networks += 1.0;
                    Ok(Pointwise::boxed([-1.0, 1.5 - networks], [0.2, -0.1]))
                }).unwrap();
                let mut context = context(9);
                strategy.step(batch, &mut context).unwrap();
                (gradient(strategy.as_ref()), context.log().unwrap())
            };
            let ((one, log), (two, other_log)) = (run(&make(false)), run(&make(true)));
            prop_assert!(near(&one, &two), "{name} {settings}");
            for (term, value) in log {
                prop_assert!((value - other_log[term]).abs() < 1e-5, "{name} {settings}: {term}");
            }
        }
    }
}

#[test]
fn no_decay_copies_and_full_decay_keeps() {
    let network = |value: f32| Pointwise::boxed([value; 2], [value; 2]);
    let mut teacher = Teacher::copy_of(network(1.0).as_ref(), "teacher", network(9.0)).unwrap();
    let value = |t: &Teacher| {
        let weight = t.network().parameters().get("weight").unwrap();
        weight.double_value(&[0, 0, 0, 0, 0])
    };
    teacher.follow(network(3.0).as_ref(), 1.0).unwrap();
    assert_eq!(value(&teacher), 1.0);
    teacher
        .follow(network(3.0).as_ref(), Decay::default().at(0))
        .unwrap();
    assert_eq!(value(&teacher), 3.0, "the first step of a warm-up copies");
}
