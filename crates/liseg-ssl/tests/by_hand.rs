//! One step of every strategy against sums worked out voxel by voxel in f64.
//!
//! The network is logit_c = w_c x + b_c, so that p = 1 / (1 + exp(−(w₁ − w₀) x − (b₁ − b₀))) is all
//! there is to know. The objective is written out as its publication has it; its gradient is taken by
//! differences.

use crate::common::Pointwise;
use liseg_morphology::Connectivity;
use liseg_nn::loss::DiceCrossEntropy;
use liseg_nn::tch::{Device, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use liseg_ssl::{
    AmplitudeAxes, Batch, Bcp, BcpConfig, Cps, CpsConfig, FrequencyWindow, Labelled, MeanTeacher,
    MeanTeacherConfig, Midss, MidssConfig, PasteBox, Progress, Scope, StepContext, Strategy,
    Supervised, SupervisedConfig, Unlabelled, Views, WeakToStrong, WeakToStrongConfig, draw_kept,
    draw_spared, mix_amplitudes,
};
use liseg_volume::Seed;
use rand::RngExt;
use rand_distr::{Distribution, Normal};

/// Weights and biases (w₀, w₁, b₀, b₁).
type Theta = [f64; 4];

const THETA: Theta = [-0.5, 0.75, 0.25, -0.125];
const OTHER: Theta = [0.5, -0.25, -0.5, 0.125];
const LABELLED: [[f64; 8]; 2] = [
    [1.0, -0.5, 2.0, 0.25, -1.5, 0.5, 1.25, -0.75],
    [-1.0, 1.5, 0.5, -0.25, 0.75, -2.0, 1.0, 0.125],
];
const LABELS: [[usize; 8]; 2] = [[1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 1, 0, 1, 0, 0, 1]];
const UNLABELLED: [[f64; 8]; 2] = [
    [0.5, 1.75, -1.25, 3.0, -3.0, 0.875, -0.5, 2.5],
    [-2.5, 0.375, 1.5, -0.875, 3.5, -1.0, 0.625, -4.0],
];
const PROGRESS: Progress = Progress {
    iteration: 5,
    iterations: 10,
};

fn strong(view: usize) -> [[f64; 8]; 2] {
    UNLABELLED.map(|patch| patch.map(|x| x * (1.5 - view as f64) + 0.125))
}

/// p of class `c` at a voxel.
fn p(theta: &Theta, x: f64, c: usize) -> f64 {
    let [w0, w1, b0, b1] = theta;
    let foreground = 1.0 / (1.0 + (-((w1 - w0) * x + b1 - b0)).exp());
    if c == 1 { foreground } else { 1.0 - foreground }
}

fn label(theta: &Theta, x: f64) -> usize {
    usize::from(p(theta, x, 1) >= 0.5)
}

/// Mean cross-entropy over voxels with weight.
fn cross_entropy(theta: &Theta, voxels: &[(f64, usize, f64)], count: f64) -> f64 {
    let sum: f64 = voxels
        .iter()
        .map(|&(x, y, m)| -m * p(theta, x, y).ln())
        .sum();
    sum / count
}

/// 1 − mean over classes of (2 Σ p t + ε) / (Σ p^k + Σ t + ε).
fn dice(theta: &Theta, voxels: &[(f64, usize, f64)], power: i32, epsilon: f64) -> f64 {
    let of = |c: usize| {
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            let each = voxels.iter();
            each.map(|&(x, y, m)| m * f(p(theta, x, c), f64::from(u8::from(y == c))))
                .sum()
        };
        (2.0 * sum(&|p, t| p * t) + epsilon) / (sum(&|p, t| p.powi(power) + t) + epsilon)
    };
    1.0 - (of(0) + of(1)) / 2.0
}

fn voxels(patches: &[[f64; 8]], labels: &[[usize; 8]]) -> Vec<(f64, usize, f64)> {
    let pairs = patches.iter().flatten().zip(labels.iter().flatten());
    pairs.map(|(&x, &y)| (x, y, 1.0)).collect()
}

fn tensor(patches: [[f64; 8]; 2]) -> Tensor {
    let flat: Vec<f32> = patches.iter().flatten().map(|&x| x as f32).collect();
    Tensor::from_slice(&flat).view([2, 1, 2, 2, 2])
}

fn batch(strong_views: usize, unlabelled: [[f64; 8]; 2]) -> Batch {
    let labels: Vec<i64> = LABELS.iter().flatten().map(|&y| y as i64).collect();
    Batch {
        labelled: Some(Labelled {
            image: tensor(LABELLED),
            label: Tensor::from_slice(&labels).view([2, 2, 2, 2]),
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: tensor(unlabelled),
            strong: (0..strong_views).map(|view| tensor(strong(view))).collect(),
            valid: None,
        }),
    }
}

fn network(theta: Theta) -> Box<dyn SegmentationNet> {
    let [w0, w1, b0, b1] = theta.map(|v| v as f32);
    Pointwise::boxed([w0, w1], [b0, b1])
}

/// Compares the gradients of the first learner with differences of an objective written by hand.
fn check(strategy: impl Strategy, objective: &dyn Fn(&Theta) -> f64) {
    check_step(strategy, Seed(0), objective);
}

/// The same in the step of a run with that seed.
fn check_step(strategy: impl Strategy, seed: Seed, objective: &dyn Fn(&Theta) -> f64) {
    let batch = batch(strategy.request().strong_views, UNLABELLED);
    check_batch(strategy, (&batch, seed), objective);
}

/// The same on a batch of its own.
fn check_batch(strategy: impl Strategy, step: (&Batch, Seed), objective: &dyn Fn(&Theta) -> f64) {
    check_learner(strategy, (0, THETA), step, objective);
}

/// The same for another learner, which starts from `start`.
fn check_learner(
    mut strategy: impl Strategy,
    (learner, start): (usize, Theta),
    (batch, seed): (&Batch, Seed),
    objective: &dyn Fn(&Theta) -> f64,
) {
    let mut context = StepContext::new(PROGRESS, 2).with_seed(seed);
    strategy.step(batch, &mut context).unwrap();
    let parameters = strategy.learners()[learner].network().parameters();
    let found: Vec<f64> = ["weight", "bias"]
        .iter()
        .flat_map(|name| {
            let grad = parameters.get(name).unwrap().grad();
            [0, 1].map(|c| grad.double_value(&[0, c, 0, 0, 0]))
        })
        .collect();
    for (i, found) in found.into_iter().enumerate() {
        let moved = |step: f64| {
            let mut theta = start;
            theta[i] += step;
            objective(&theta)
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let difference = (found - expected).abs();
        assert!(
            difference < 2e-5,
            "{} {i}: {found}, by hand {expected}",
            strategy.name()
        );
        assert!(
            expected.abs() > 1e-4,
            "the objective does not depend on {i}"
        );
    }
}

fn adam() -> OptimiserConfig {
    OptimiserConfig::adam()
}

fn ramp(share: f64) -> f64 {
    (-5.0 * (1.0 - share).powi(2)).exp()
}

#[test]
fn supervised_training() {
    let config = SupervisedConfig {
        batch_size: 2,
        loss: DiceCrossEntropy {
            include_background: true,
            batch_dice: true,
            ..DiceCrossEntropy::default()
        },
    };
    let strategy = Supervised::new(config, network(THETA), adam()).unwrap();
    check(strategy, &|theta| {
        let all = voxels(&LABELLED, &LABELS);
        cross_entropy(theta, &all, 16.0) + dice(theta, &all, 1, 1e-5) - 1.0
    });
}

#[test]
fn cross_pseudo_supervision() {
    let config = CpsConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        ramp: 1.0,
        ..CpsConfig::default()
    };
    let objective = |theta: &Theta, taught_by: &Theta| {
        let taught =
            |patches: [[f64; 8]; 2]| patches.map(|patch| patch.map(|x| label(taught_by, x)));
        let labelled = voxels(&LABELLED, &LABELS);
        let mut pseudo = voxels(&LABELLED, &taught(LABELLED));
        pseudo.extend(voxels(&UNLABELLED, &taught(UNLABELLED)));
        let weight = 1.5 * ramp(0.5);
        cross_entropy(theta, &labelled, 16.0) + weight * cross_entropy(theta, &pseudo, 32.0)
    };
    let batch = batch(0, UNLABELLED);
    for (learner, start, other) in [(0, THETA, OTHER), (1, OTHER, THETA)] {
        let networks = [network(THETA), network(OTHER)];
        let strategy = Cps::new(config.clone(), networks, adam()).unwrap();
        check_learner(strategy, (learner, start), (&batch, Seed(0)), &|theta| {
            objective(theta, &other)
        });
    }
}

#[test]
fn cross_pseudo_supervision_on_views_of_ones_own() {
    let config = CpsConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        ramp: 1.0,
        apply_to: Scope::Unlabelled,
        views: Views::PerNetwork,
        ..CpsConfig::default()
    };
    let batch = batch(2, UNLABELLED);
    for (learner, start, other) in [(0, THETA, OTHER), (1, OTHER, THETA)] {
        let networks = [network(THETA), network(OTHER)];
        let strategy = Cps::new(config.clone(), networks, adam()).unwrap();
        check_learner(strategy, (learner, start), (&batch, Seed(0)), &|theta| {
            // The other network's labels of the weak view, on one's own strong one.
            let taught = UNLABELLED.map(|patch| patch.map(|x| label(&other, x)));
            let pseudo = voxels(&strong(learner), &taught);
            cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0)
                + 1.5 * ramp(0.5) * cross_entropy(theta, &pseudo, 16.0)
        });
    }
}

/// The strategy with a teacher that is not its student: who answers what shows.
fn taught_by_another<S: Strategy>(mut strategy: S) -> S {
    let teacher = &mut strategy.teachers_mut()[0];
    teacher.follow(network(OTHER).as_ref(), 0.0).unwrap();
    strategy
}

#[test]
fn mean_teacher() {
    let config = MeanTeacherConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        noise: 0.0,
        ..MeanTeacherConfig::default()
    };
    let strategy = MeanTeacher::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check(taught_by_another(strategy), &|theta| {
        let squares = UNLABELLED.iter().flatten().map(|&x| {
            (0..2)
                .map(|c| (p(theta, x, c) - p(&OTHER, x, c)).powi(2))
                .sum::<f64>()
        });
        let consistency = squares.sum::<f64>() / 32.0;
        cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0) + 0.1 * ramp(0.5) * consistency
    });
}

#[test]
fn the_mean_teacher_sees_noise() {
    const SIGMA: f32 = 0.75;
    let config = MeanTeacherConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        noise: f64::from(SIGMA),
        ..MeanTeacherConfig::default()
    };
    // A normal deviate a voxel, a stream a patch, cut at two deviations.
    let context = StepContext::new(PROGRESS, 2).with_seed(Seed(3));
    let normal = Normal::new(0.0f32, SIGMA).unwrap();
    let noise = [0, 1].map(|patch| {
        let mut rng = context.stream("mean-teacher/noise", patch);
        std::array::from_fn::<f64, 8, _>(|_| {
            let drawn: f32 = normal.sample(&mut rng);
            f64::from(drawn.clamp(-2.0 * SIGMA, 2.0 * SIGMA))
        })
    });
    let spread = noise.iter().flatten().map(|n| n.abs()).fold(0.0, f64::max);
    assert!(spread > 0.5 && spread <= 1.5, "{spread}");
    let strategy = MeanTeacher::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check_step(taught_by_another(strategy), Seed(3), &|theta| {
        let pairs = UNLABELLED.iter().flatten().zip(noise.iter().flatten());
        let squares = pairs.map(|(&x, &n)| {
            let difference = |c| p(theta, x, c) - p(&OTHER, x + n, c);
            difference(0).powi(2) + difference(1).powi(2)
        });
        let consistency = squares.sum::<f64>() / 32.0;
        cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0) + 0.1 * ramp(0.5) * consistency
    });
}

/// θ̄ ← α θ̄ + (1 − α) θ, with the α of the step.
#[test]
fn teachers_follow_by_the_schedules_decay() {
    let pair = || [network(THETA), network(THETA)];
    let warm = 5.0 / 6.0;
    let self_training = BcpConfig {
        pretraining: 0.5,
        ..BcpConfig::default()
    };
    let cases: [(Box<dyn Strategy>, f64); 5] = [
        (
            Box::new(MeanTeacher::new(MeanTeacherConfig::default(), pair(), adam()).unwrap()),
            warm,
        ),
        (
            Box::new(Midss::new(MidssConfig::default(), pair(), adam()).unwrap()),
            warm,
        ),
        (
            Box::new(WeakToStrong::new(WeakToStrongConfig::default(), pair(), adam()).unwrap()),
            warm,
        ),
        (
            Box::new(Bcp::new(self_training.clone(), pair(), adam()).unwrap()),
            0.99,
        ),
        // Still in its first phase: the teacher is the student.
        (
            Box::new(
                Bcp::new(
                    BcpConfig {
                        pretraining: 0.6,
                        ..self_training
                    },
                    pair(),
                    adam(),
                )
                .unwrap(),
            ),
            0.0,
        ),
    ];
    for (mut strategy, decay) in cases {
        let teacher = &mut strategy.teachers_mut()[0];
        teacher.follow(network(OTHER).as_ref(), 0.0).unwrap();
        strategy.after_step(&StepContext::new(PROGRESS, 2)).unwrap();
        let parameters = strategy.teachers()[0].network().parameters();
        for (i, name) in [(0, "weight"), (2, "bias")] {
            for c in 0..2 {
                let found = parameters
                    .get(name)
                    .unwrap()
                    .double_value(&[0, c as i64, 0, 0, 0]);
                let expected = decay * OTHER[i + c] + (1.0 - decay) * THETA[i + c];
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{} {name}",
                    strategy.name()
                );
            }
        }
    }
}

#[test]
fn bidirectional_copy_paste() {
    let config = BcpConfig {
        box_share: 0.5,
        pretraining: 0.0,
        ..BcpConfig::default()
    };
    let strategy = Bcp::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check(taught_by_another(strategy), &|theta| {
        // Of 2 × 2 × 2 voxels the box takes ⌊½ · 2⌋ = 1, and its one offset is 0. All voxels touch.
        let cleaned = |patch: [f64; 8]| patch.map(|x| label(&OTHER, x));
        let loss = |voxels: &[(f64, usize, f64)]| {
            let count = voxels.len() as f64;
            0.5 * (dice(theta, voxels, 1, 1e-5) + cross_entropy(theta, voxels, count))
        };
        let part = |patch: [f64; 8], labels: [usize; 8], crop: bool| {
            let all = voxels(&[patch], &[labels]);
            let (inside, outside) = all.split_at(1);
            loss(if crop { inside } else { outside })
        };
        let (ua, ub) = (UNLABELLED[0], UNLABELLED[1]);
        part(LABELLED[0], LABELS[0], false)
            + 0.5 * part(ua, cleaned(ua), true)
            + 0.5 * part(ub, cleaned(ub), false)
            + part(LABELLED[1], LABELS[1], true)
    });
}

#[test]
fn bidirectional_copy_paste_begins_with_mixed_labels() {
    let config = BcpConfig {
        box_share: 0.5,
        pretraining: 1.0,
        ..BcpConfig::default()
    };
    let strategy = Bcp::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check(taught_by_another(strategy), &|theta| {
        // The box is the first voxel; one mean over the whole mixture.
        let mut mixed = voxels(&LABELLED[..1], &LABELS[..1]);
        mixed[0] = voxels(&LABELLED[1..], &LABELS[1..])[0];
        0.5 * (dice(theta, &mixed, 1, 1e-5) + cross_entropy(theta, &mixed, 8.0))
    });
}

#[test]
fn bidirectional_copy_paste_cleans_pseudo_labels() {
    // The other network calls x ≤ 5/6 foreground. Of the voxels (z, y, x) of a patch, in storage order, 0 touches
    // 1, 2 and 4 alone by a face.
    let unlabelled = [
        [0.5, 1.75, 1.25, 3.0, 2.0, 0.875, -0.5, -2.5],
        [-2.5, 0.375, 1.5, 0.875, 3.5, 1.0, 0.625, 4.0],
    ];
    let seen = unlabelled.map(|patch| patch.map(|x| label(&OTHER, x)));
    assert_eq!(seen, [[1, 0, 0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 1, 0]]);
    let cleaned = [[0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 0, 0]];
    let config = BcpConfig {
        box_share: 0.5,
        pretraining: 0.0,
        connectivity: Connectivity::Face,
        ..BcpConfig::default()
    };
    let strategy = Bcp::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    let batch = batch(0, unlabelled);
    let strategy = taught_by_another(strategy);
    check_batch(strategy, (&batch, Seed(0)), &|theta| {
        let loss = |patch: [f64; 8], labels: [usize; 8], crop: bool| {
            let all = voxels(&[patch], &[labels]);
            let (inside, outside) = all.split_at(1);
            let voxels = if crop { inside } else { outside };
            let count = voxels.len() as f64;
            0.5 * (dice(theta, voxels, 1, 1e-5) + cross_entropy(theta, voxels, count))
        };
        loss(LABELLED[0], LABELS[0], false)
            + 0.5 * loss(unlabelled[0], cleaned[0], true)
            + 0.5 * loss(unlabelled[1], cleaned[1], false)
            + loss(LABELLED[1], LABELS[1], true)
    });
}

#[test]
fn midss() {
    let config = MidssConfig {
        box_probability: 0.0,
        amplitude_axes: AmplitudeAxes::Off,
        threshold: 0.6,
        ..MidssConfig::default()
    };
    let strategy = Midss::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check(taught_by_another(strategy), &|theta| {
        let loss = |voxels: &[(f64, usize, f64)]| {
            cross_entropy(theta, voxels, 16.0) + dice(theta, voxels, 2, 1e-10)
        };
        let supervised = loss(&voxels(&LABELLED, &LABELS));
        // Without a box both mixtures are whole patches, and symmetric guidance agrees with itself.
        let taught: Vec<(f64, usize, f64)> = strong(0)
            .iter()
            .flatten()
            .zip(UNLABELLED.iter().flatten())
            .map(|(&s, &x)| {
                let y = label(&OTHER, x);
                (s, y, f64::from(u8::from(p(&OTHER, x, y) > 0.6)))
            })
            .collect();
        let w = ramp(0.5);
        supervised + w * (loss(&taught) + supervised + w * loss(&taught))
    });
}

/// The box that a strategy draws for one purpose in a run with that seed.
fn drawn_box(seed: Seed, purpose: &str, stream: u64) -> [bool; 8] {
    let context = StepContext::new(PROGRESS, 2).with_seed(seed);
    let mut rng = context.stream(purpose, stream);
    let _whether: f64 = rng.random();
    let drawn = PasteBox::random([2, 2, 2], &mut rng);
    let mask = drawn.mask([2, 2, 2], Device::Cpu).unwrap().flatten(0, -1);
    std::array::from_fn(|voxel| mask.int64_value(&[voxel as i64]) == 1)
}

/// A seed with which all of these boxes hold a part of the patch and no more, and the boxes.
fn seed_with_boxes<const N: usize>(purpose: &str) -> (Seed, [[bool; 8]; N]) {
    let is_mixed = |of: &[bool; 8]| of.contains(&true) && of.contains(&false);
    let boxes = |seed: Seed| std::array::from_fn(|i| drawn_box(seed, purpose, i as u64));
    let found = (0..1000).map(|seed| (Seed(seed), boxes(Seed(seed))));
    let mut found = found.filter(|(_, boxes)| boxes.iter().all(is_mixed));
    found.next().unwrap()
}

#[test]
fn midss_with_boxes() {
    let (seed, inside): (Seed, [[bool; 8]; 2]) = seed_with_boxes("midss/box");
    let config = MidssConfig {
        box_probability: 1.0,
        amplitude_axes: AmplitudeAxes::Off,
        threshold: 0.6,
        ..MidssConfig::default()
    };
    let strategy = Midss::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check_step(taught_by_another(strategy), seed, &|theta| {
        let loss = |voxels: &[(f64, usize, f64)]| {
            cross_entropy(theta, voxels, 16.0) + dice(theta, voxels, 2, 1e-10)
        };
        let labelled = voxels(&LABELLED, &LABELS);
        let taught = strong(0)
            .into_iter()
            .flatten()
            .zip(UNLABELLED.into_iter().flatten());
        let taught: Vec<_> = taught
            .map(|(s, x)| {
                let y = label(&OTHER, x);
                (s, y, f64::from(u8::from(p(&OTHER, x, y) > 0.6)))
            })
            .collect();
        // Labelled inside the box and unlabelled outside, then the other way round.
        let mixed = |labelled_inside: bool| -> Vec<_> {
            let of_voxel = inside.iter().flatten().zip(labelled.iter().zip(&taught));
            let chosen =
                of_voxel.map(|(&inside, (&l, &u))| if inside == labelled_inside { l } else { u });
            chosen.collect()
        };
        let w = ramp(0.5);
        loss(&labelled) + w * (loss(&mixed(true)) + loss(&mixed(false)) + w * loss(&taught))
    });
}

#[test]
fn midss_with_boxes_and_styles() {
    let (seed, inside): (Seed, [[bool; 8]; 2]) = seed_with_boxes("midss/box");
    let config = MidssConfig {
        box_probability: 1.0,
        threshold: 0.6,
        ..MidssConfig::default()
    };
    // x_f: amplitudes of its own pair, their share from U(0, i / T).
    let context = StepContext::new(PROGRESS, 2).with_seed(seed);
    let share = |pair| context.stream("midss/amplitude", pair).random::<f64>() * 0.5;
    let window = FrequencyWindow::of_share([2; 3], config.amplitude_share);
    let shares = [share(0), share(1)];
    let styled = mix_amplitudes(&tensor(LABELLED), &tensor(UNLABELLED), &shares, window).unwrap();
    let styled = Vec::<f32>::try_from(styled.flatten(0, -1)).unwrap();
    let labels = LABELS.iter().flatten();
    let styled: Vec<_> = styled
        .iter()
        .zip(labels)
        .map(|(&x, &y)| (f64::from(x), y, 1.0))
        .collect();
    let strategy = Midss::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check_step(taught_by_another(strategy), seed, &|theta| {
        let loss = |voxels: &[(f64, usize, f64)]| {
            cross_entropy(theta, voxels, 16.0) + dice(theta, voxels, 2, 1e-10)
        };
        let seen = strong(0)
            .into_iter()
            .flatten()
            .zip(UNLABELLED.into_iter().flatten());
        let taught: Vec<_> = seen
            .map(|(s, x)| {
                let y = label(&OTHER, x);
                (s, y, f64::from(u8::from(p(&OTHER, x, y) > 0.6)))
            })
            .collect();
        let mixed = |labelled_inside: bool| -> Vec<_> {
            let of_voxel = inside.iter().flatten().zip(styled.iter().zip(&taught));
            let chosen =
                of_voxel.map(|(&inside, (&l, &u))| if inside == labelled_inside { l } else { u });
            chosen.collect()
        };
        let w = ramp(0.5);
        let supervised = loss(&voxels(&LABELLED, &LABELS));
        supervised + w * (loss(&mixed(true)) + loss(&mixed(false)) + w * loss(&taught))
    });
}

#[test]
fn weak_to_strong() {
    for unlabelled_dice in [false, true] {
        let config = WeakToStrongConfig {
            loss: DiceCrossEntropy::cross_entropy(),
            threshold: 0.6,
            unlabelled_dice,
            cutmix_probability: 0.0,
            channel_dropout: false,
            ..WeakToStrongConfig::default()
        };
        let strategy = WeakToStrong::new(config, [network(THETA), network(THETA)], adam()).unwrap();
        check(taught_by_another(strategy), &|theta| {
            let view = |number: usize| -> f64 {
                let pairs = strong(number);
                let taught: Vec<_> = pairs
                    .iter()
                    .flatten()
                    .zip(UNLABELLED.iter().flatten())
                    .map(|(&s, &x)| {
                        let y = label(&OTHER, x);
                        (s, y, f64::from(u8::from(p(&OTHER, x, y) >= 0.6)))
                    })
                    .collect();
                let (first, second) = taught.split_at(8);
                let overlap = 0.5 * (dice(theta, first, 1, 1e-5) + dice(theta, second, 1, 1e-5));
                let overlap = if unlabelled_dice { overlap } else { 0.0 };
                cross_entropy(theta, &taught, 16.0) + overlap
            };
            let supervised = cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0);
            0.5 * (supervised + 0.5 * (view(0) + view(1)))
        });
    }
}

/// One of both strong views: what the teacher says of each voxel, boxes of the other patch pasted in.
fn with_boxes(view: usize, inside: &[[bool; 8]; 4]) -> Vec<(f64, usize, f64)> {
    let images = strong(view);
    let voxel = |patch: usize, voxel: usize| {
        let x = UNLABELLED[patch][voxel];
        let y = label(&OTHER, x);
        let sure = f64::from(u8::from(p(&OTHER, x, y) >= 0.6));
        (images[patch][voxel], y, sure)
    };
    (0..16)
        .map(|i| (i / 8, i % 8))
        .map(|(patch, i)| {
            let pasted = inside[patch * 2 + view][i];
            voxel(if pasted { 1 - patch } else { patch }, i)
        })
        .collect()
}

#[test]
fn weak_to_strong_with_boxes() {
    let (seed, inside) = seed_with_boxes("weak-to-strong/box");
    let config = WeakToStrongConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        threshold: 0.6,
        cutmix_probability: 1.0,
        channel_dropout: false,
        ..WeakToStrongConfig::default()
    };
    let strategy = WeakToStrong::new(config, [network(THETA), network(THETA)], adam()).unwrap();
    check_step(taught_by_another(strategy), seed, &|theta| {
        let view = |number| cross_entropy(theta, &with_boxes(number, &inside), 16.0);
        let supervised = cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0);
        0.5 * (supervised + 0.5 * (view(0) + view(1)))
    });
}

/// [`Pointwise`] whose two products with the voxel are features that a strategy may perturb.
struct TwoFeatures(Box<dyn SegmentationNet>);

impl SegmentationNet for TwoFeatures {
    fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
        self.0.forward_scales(images)
    }
    fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
        self.0.forward(images)
    }
    fn forward_perturbed(
        &self,
        images: &Tensor,
        perturb: &mut dyn FnMut(usize, Tensor) -> liseg_nn::Result<Tensor>,
    ) -> liseg_nn::Result<Tensor> {
        let of = |name| self.parameters().get(name).unwrap();
        Ok(perturb(0, images * of("weight"))? + of("bias"))
    }
    fn parameters(&self) -> &liseg_nn::Parameters {
        self.0.parameters()
    }
    fn parameters_mut(&mut self) -> &mut liseg_nn::Parameters {
        self.0.parameters_mut()
    }
    fn classes(&self) -> i64 {
        2
    }
    fn stride_product(&self) -> [usize; 3] {
        [1; 3]
    }
    fn head_prefixes(&self) -> Vec<String> {
        vec![]
    }
}

#[test]
fn weak_to_strong_with_channel_dropout() {
    let config = WeakToStrongConfig {
        loss: DiceCrossEntropy::cross_entropy(),
        threshold: 0.6,
        cutmix_probability: 0.0,
        ..WeakToStrongConfig::default()
    };
    // A patch that is not spared keeps one feature in view 1 and the other in view 2.
    let draws = |seed| {
        let context = StepContext::new(PROGRESS, 2).with_seed(seed);
        let spared = draw_spared(2, &mut context.stream("weak-to-strong/spared", 0));
        let kept = draw_kept(
            2,
            &mut context.stream("weak-to-strong/dropout", 1 - spared[0] as u64),
        );
        (spared[0], kept)
    };
    let seed = (0..1000)
        .map(Seed)
        .find(|&seed| draws(seed).1 == [true, false]);
    let seed = seed.unwrap();
    let spared = draws(seed).0;
    let networks =
        [0, 1].map(|_| Box::new(TwoFeatures(network(THETA))) as Box<dyn SegmentationNet>);
    let strategy = WeakToStrong::new(config, networks, adam()).unwrap();
    check_step(taught_by_another(strategy), seed, &|theta| {
        let [w0, w1, b0, b1] = *theta;
        let patch = |view: usize, patch: usize| {
            let dropped = match (patch == spared, view) {
                (true, _) => *theta,
                (false, 0) => [2.0 * w0, 0.0, b0, b1],
                (false, _) => [0.0, 2.0 * w1, b0, b1],
            };
            let taught = with_boxes(view, &[[false; 8]; 4]);
            cross_entropy(&dropped, &taught[patch * 8..patch * 8 + 8], 16.0)
        };
        let views = patch(0, 0) + patch(0, 1) + patch(1, 0) + patch(1, 1);
        let supervised = cross_entropy(theta, &voxels(&LABELLED, &LABELS), 16.0);
        0.5 * (supervised + 0.5 * views)
    });
}
