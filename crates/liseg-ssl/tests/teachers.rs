//! Strategies with a teacher: reference numbers, exact resume, what must always hold.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, Precision, TensorMap, checkpoint};
use liseg_ssl::{
    Batch, BcpConfig, Decay, Labelled, MeanTeacherConfig, Progress, RegionDice, StepContext,
    Strategy, StrategyConfig, Unlabelled, region_loss, softmax_difference,
};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::Seed;
use std::path::PathBuf;

/// What is done with a reference case: its description, and its tensors by name.
type Check<'a> = dyn FnMut(&serde_json::Value, &dyn Fn(&str) -> Option<Tensor>) + 'a;

/// Calls `check` with every reference case of a group.
fn golden(group: &str, check: &mut Check<'_>) {
    let Some(data) = std::env::var_os("LISEG_DATA") else {
        eprintln!("skipped: LISEG_DATA is not set");
        return;
    };
    let folder = PathBuf::from(data).join("../reference/golden/ssl");
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (tensors, _) = checkpoint::read(&folder.join(format!("{group}.safetensors"))).unwrap();
    let groups = manifest["groups"].as_array().unwrap();
    let found = groups.iter().find(|g| g["name"] == group).unwrap();
    for case in found["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let of = |part: &str| tensors.get(&format!("{name}.{part}")).map(Tensor::copy);
        check(case, &of);
    }
}

fn close(found: &Tensor, expected: &Tensor, what: &str) {
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let allowed = expected.abs() * 5e-5 + 5e-8;
    let excess = ((found - expected).abs() - allowed).max().double_value(&[]);
    assert!(excess <= 0.0, "{what}: {excess} beyond the tolerance");
}

fn near(found: &Tensor, expected: &serde_json::Value, what: &str) {
    let (found, expected) = (found.double_value(&[]), expected.as_f64().unwrap());
    let difference = (found - expected).abs();
    assert!(
        difference <= 2e-6 + 2e-6 * expected.abs(),
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn dice_variants_match_the_published_code() {
    let mut seen = 0;
    golden("dice", &mut |case, of| {
        let name = case["name"].as_str().unwrap();
        let variant = match case["op"].as_str().unwrap() {
            "sample_linear" => RegionDice::SampleLinear,
            "batch_square" => RegionDice::BatchSquare,
            "batch_square_eps5" => RegionDice::BatchSquareEps5,
            "batch_square_background_unmasked" => RegionDice::BatchSquareBackgroundUnmasked,
            other => panic!("unknown {other}"),
        };
        let logits = of("in.logits").unwrap().set_requires_grad(true);
        let label = of("in.target").unwrap().to_kind(Kind::Int64);
        let mask = of("in.mask");
        let p = logits.softmax(1, Kind::Float);
        let loss = variant.loss(&p, &label, mask.as_ref()).unwrap();
        near(&loss, &case["outputs"]["loss"], name);
        if let Some(gradient) = of("out.grad") {
            loss.backward();
            close(&logits.grad(), &gradient, name);
        }
        seen += 1;
    });
    assert!(seen == 0 || seen == 20, "{seen} cases");
}

#[test]
fn bcp_losses_match_the_published_code() {
    golden("bcp", &mut |case, of| {
        if case["op"] != "bcp_loss" {
            return;
        }
        let name = case["name"].as_str().unwrap();
        let alpha = case["params"]["alpha"].as_f64().unwrap();
        let (Some(logits_in), Some(logits_out)) =
            (of("in.student_logits_in"), of("in.student_logits_out"))
        else {
            panic!("{name}: no logits");
        };
        let (logits_in, logits_out) = (
            logits_in.set_requires_grad(true),
            logits_out.set_requires_grad(true),
        );
        let label = |part: &str| of(part).unwrap().to_kind(Kind::Int64);
        let outside = of("in.mask").unwrap().ne(0.0);
        let inside = outside.logical_not();
        let part = |logits: &Tensor, label: &Tensor, region: &Tensor| {
            region_loss(logits, label, region).unwrap()
        };
        let loss_in = part(&logits_in, &label("in.label_a"), &outside)
            + part(&logits_in, &label("in.pseudo_a"), &inside) * alpha;
        let loss_out = part(&logits_out, &label("in.pseudo_b"), &outside) * alpha
            + part(&logits_out, &label("in.label_b"), &inside);
        near(&loss_in, &case["outputs"]["loss_in"], name);
        near(&loss_out, &case["outputs"]["loss_out"], name);
        if let (Some(of_in), Some(of_out)) = (of("out.grad_in"), of("out.grad_out")) {
            (loss_in + loss_out).backward();
            close(&logits_in.grad(), &of_in, name);
            close(&logits_out.grad(), &of_out, name);
        }
    });
}

#[test]
fn teachers_match_the_published_code() {
    golden("teacher", &mut |case, of| {
        if case["op"] == "consistency_mse" {
            let student = of("in.student_logits").unwrap().set_requires_grad(true);
            let loss = softmax_difference(&student, &of("in.teacher_logits").unwrap(), None);
            let loss = loss.unwrap();
            near(&loss, &case["outputs"]["loss"], "consistency");
            loss.backward();
            close(&student.grad(), &of("out.grad").unwrap(), "consistency");
        }
        if case["op"] == "ema_decay" {
            let decay = Decay {
                rate: case["params"]["decay"].as_f64().unwrap(),
                warm_up: true,
            };
            let found = decay.at(case["inputs"]["step"].as_u64().unwrap());
            let expected = case["outputs"]["decay"].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12);
        }
    });
}

fn build(config: &StrategyConfig) -> Box<dyn Strategy> {
    let shape = StuNetConfig {
        widths: [4; 6],
        precision: Precision::F32,
        ..StuNetConfig::small(2)
    };
    config
        .build(OptimiserConfig::adam(), &mut |name| {
            let mut rng = Seed(3).stream(name, 0, 0);
            Ok(Box::new(StuNet::new(&shape, Device::Cpu, &mut rng)?))
        })
        .unwrap()
}

fn configs() -> [StrategyConfig; 2] {
    [
        StrategyConfig::Bcp(BcpConfig::default()),
        StrategyConfig::MeanTeacher(MeanTeacherConfig::default()),
    ]
}

/// Two patches whose bright half is foreground, with and without labels.
fn batch() -> Batch {
    let x = Tensor::arange(32, (Kind::Float, Device::Cpu)).view([1, 1, 1, 1, 32]) / 16.0 - 1.0;
    let one = x.expand([1, 1, 32, 64, 32], false).contiguous();
    let image = Tensor::cat(&[&one, &(&one * 0.8)], 0);
    Batch {
        labelled: Some(Labelled {
            image: image.copy(),
            label: image.squeeze_dim(1).gt(0.0).to_kind(Kind::Int64),
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: image * 0.9,
            valid: None,
        }),
    }
}

fn train(strategy: &mut dyn Strategy, steps: std::ops::Range<u64>, micro_batch: usize) {
    for iteration in steps {
        let progress = Progress {
            iteration,
            iterations: 10,
        };
        let mut context = StepContext::new(progress, micro_batch).with_seed(Seed(8));
        strategy.step(&batch(), &mut context).unwrap();
        assert!(strategy.optimise(1e-3, 12.0).unwrap()[0].is_finite());
        strategy.after_step(&context).unwrap();
        assert!(context.log().unwrap().values().all(|v| v.is_finite()));
    }
}

fn state(strategy: &dyn Strategy) -> TensorMap {
    let mut map = TensorMap::new();
    strategy.save_into(&mut map).unwrap();
    map
}

fn equal(a: &TensorMap, b: &TensorMap) -> bool {
    a.len() == b.len() && a.iter().all(|(name, tensor)| b[name].equal(tensor))
}

#[test]
fn saved_and_loaded_teachers_go_on_bit_for_bit() {
    for config in configs() {
        // The save lies in BCP's first phase and the end in its second.
        let mut straight = build(&config);
        train(straight.as_mut(), 0..1, 1);
        let saved = state(straight.as_ref());
        train(straight.as_mut(), 1..4, 1);
        let mut resumed = build(&config);
        resumed.load(&saved).unwrap();
        train(resumed.as_mut(), 1..4, 1);
        let (a, b) = (state(straight.as_ref()), state(resumed.as_ref()));
        assert!(a.keys().any(|name| name.starts_with("teacher.")));
        assert!(equal(&a, &b), "{}", config.name());
    }
}

#[test]
fn the_teacher_is_the_student_until_self_training_begins() {
    let same = |s: &dyn Strategy| {
        let student = s.learners()[0].network().parameters();
        let teacher = s.teachers()[0].network().parameters();
        student
            .iter()
            .all(|(name, t)| teacher.get(name).unwrap().equal(t))
    };
    let mut bcp = build(&configs()[0]);
    assert!(same(bcp.as_ref()));
    train(bcp.as_mut(), 0..2, 1);
    assert!(same(bcp.as_ref()));
    train(bcp.as_mut(), 2..3, 1);
    assert!(!same(bcp.as_ref()));
}
