//! What holds for every strategy: exact resume, rest at rate zero, learning, memory, prediction.

use crate::common::{batch_for, build, equal, every_strategy, state, train};
use liseg_nn::TensorMap;
use liseg_nn::tch::{Tensor, no_grad_guard};
use liseg_ssl::{BcpConfig, CpsConfig, Progress, StepContext, Strategy, StrategyConfig, Views};
use liseg_volume::Seed;

/// Every strategy, and variants that take other paths.
fn strategies() -> Vec<StrategyConfig> {
    let mut all = every_strategy();
    all.push(StrategyConfig::Cps(CpsConfig {
        cutmix: true,
        ..CpsConfig::default()
    }));
    all.push(StrategyConfig::Cps(CpsConfig {
        views: Views::PerNetwork,
        ..CpsConfig::default()
    }));
    all
}

fn weights(strategy: &dyn Strategy) -> TensorMap {
    let mut map = TensorMap::new();
    for learner in strategy.learners() {
        let parameters = learner.network().parameters();
        parameters.save_into(learner.name(), &mut map).unwrap();
    }
    map
}

#[test]
fn saved_and_loaded_strategies_go_on_bit_for_bit() {
    for config in strategies() {
        // For BCP the save lies in its first phase and the end in its second.
        let mut straight = build(&config);
        train(straight.as_mut(), 0..1, (1e-3, 1));
        let saved = state(straight.as_ref());
        train(straight.as_mut(), 1..3, (1e-3, 1));
        let mut resumed = build(&config);
        resumed.load(&saved).unwrap();
        train(resumed.as_mut(), 1..3, (1e-3, 1));
        let (a, b) = (state(straight.as_ref()), state(resumed.as_ref()));
        assert!(equal(&a, &b), "{config:?}");
        assert!(!equal(&a, &saved), "{config:?}: nothing was learnt");
    }
}

#[test]
fn every_learner_rests_at_rate_zero() {
    for config in strategies() {
        let mut strategy = build(&config);
        let before = weights(strategy.as_ref());
        train(strategy.as_mut(), 0..2, (0.0, 1));
        assert!(equal(&before, &weights(strategy.as_ref())), "{config:?}");
    }
}

#[test]
fn every_strategy_learns_a_toy() {
    for config in every_strategy() {
        let mut strategy = build(&config);
        let log = train(strategy.as_mut(), 0..8, (3e-3, 2));
        let name = match config.name() {
            "bcp" => "mixed_in",
            _ => "supervised",
        };
        let losses: Vec<f64> = log.iter().filter_map(|l| l.get(name).copied()).collect();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < first - 0.05, "{}: {losses:?}", config.name());
    }
}

/// Who reads `metrics.jsonl` sees whether pseudo labels are any good, whatever the strategy.
#[test]
fn every_strategy_without_labels_logs_what_its_pseudo_labels_are() {
    for config in strategies() {
        let mut strategy = build(&config);
        // The last step: BCP is in its second phase.
        let log = &train(strategy.as_mut(), 9..10, (1e-3, 2))[0];
        for name in ["agreement", "confidence", "pseudo_foreground"] {
            let expected = config.name() != "supervised";
            assert_eq!(log.contains_key(name), expected, "{config:?}: {name}");
            assert!(
                log.get(name).is_none_or(|v| (0.0..=1.0).contains(v)),
                "{log:?}"
            );
        }
        let watched = strategy.sentinels();
        let vitals = strategy.vitals().unwrap();
        for sentinel in watched {
            let logged = log.contains_key(sentinel.term);
            let measured = vitals.iter().any(|(name, _)| *name == sentinel.term);
            assert!(
                logged || measured,
                "{config:?}: {} is never seen",
                sentinel.term
            );
        }
    }
}

#[test]
fn networks_that_have_become_one_are_noticed() {
    let config = StrategyConfig::Cps(CpsConfig::default());
    let cps = build(&config);
    let distance = |cps: &dyn Strategy| {
        let vitals = cps.vitals().unwrap();
        vitals
            .iter()
            .find(|(name, _)| *name == "network_distance")
            .unwrap()
            .1
    };
    let said = |cps: &dyn Strategy| {
        let of_weights = cps
            .sentinels()
            .into_iter()
            .find(|s| s.term == "network_distance");
        of_weights.unwrap().is_troubled(distance(cps))
    };
    assert!(distance(cps.as_ref()) > 0.1 && !said(cps.as_ref()));
    let [first, second] = cps.learners() else {
        panic!("two networks")
    };
    let (first, second) = (first.network().parameters(), second.network().parameters());
    second.follow(first, 0.0).unwrap();
    assert_eq!(distance(cps.as_ref()), 0.0);
    assert!(said(cps.as_ref()));
}

#[test]
fn micro_batches_change_the_order_of_sums_alone() {
    for config in strategies() {
        let [mut whole, mut single] = [build(&config), build(&config)];
        train(whole.as_mut(), 0..3, (1e-4, 2));
        train(single.as_mut(), 0..3, (1e-4, 1));
        let (a, b) = (weights(whole.as_ref()), weights(single.as_ref()));
        for (name, tensor) in &a {
            let difference = (tensor - &b[name]).abs().max().double_value(&[]);
            // Three Adam steps of 1e-4: a gradient near zero may change its sign.
            assert!(difference < 6.1e-4, "{config:?} {name}: {difference}");
        }
    }
}

#[test]
fn batches_without_what_was_asked_for_are_refused() {
    for config in strategies() {
        let mut strategy = build(&config);
        let progress = Progress {
            iteration: 9,
            iterations: 10,
        };
        let mut batch = batch_for(strategy.as_ref());
        batch.labelled = None;
        let mut context = StepContext::new(progress, 1);
        let error = strategy.step(&batch, &mut context).unwrap_err();
        assert!(error.to_string().contains("needs"), "{error}");
        if strategy.request().strong_views > 0 {
            let mut batch = batch_for(strategy.as_ref());
            batch.unlabelled.as_mut().unwrap().strong.clear();
            let error = strategy.step(&batch, &mut context).unwrap_err();
            assert!(error.to_string().contains("strong views"), "{error}");
        }
    }
}

#[test]
fn losses_that_are_no_numbers_move_nothing() {
    for config in strategies() {
        let mut strategy = build(&config);
        let before = weights(strategy.as_ref());
        let mut batch = batch_for(strategy.as_ref());
        if let Some(labelled) = &mut batch.labelled {
            labelled.image = &labelled.image * f64::NAN;
        }
        let progress = Progress {
            iteration: 9,
            iterations: 10,
        };
        let mut context = StepContext::new(progress, 1).with_seed(Seed(8));
        strategy.step(&batch, &mut context).unwrap();
        let norms = strategy.optimise(1e-2, 12.0).unwrap();
        assert!(norms.iter().all(|n| !n.is_finite()), "{}", strategy.name());
        assert!(equal(&before, &weights(strategy.as_ref())), "{config:?}");
    }
}

/// The networks of a strategy move together or not at all.
#[test]
fn gradients_of_one_network_that_are_no_numbers_move_none() {
    for config in strategies() {
        let mut strategy = build(&config);
        let before = weights(strategy.as_ref());
        let batch = batch_for(strategy.as_ref());
        let progress = Progress {
            iteration: 9,
            iterations: 10,
        };
        let mut context = StepContext::new(progress, 1).with_seed(Seed(8));
        strategy.step(&batch, &mut context).unwrap();
        let last = strategy.learners().last().unwrap().network().parameters();
        let (_, parameter) = last.iter().find(|(_, t)| t.grad().defined()).unwrap();
        let _ = parameter.grad().fill_(f64::NAN);
        let norms = strategy.optimise(1e-2, 12.0).unwrap();
        assert!(!norms.last().unwrap().is_finite());
        assert!(equal(&before, &weights(strategy.as_ref())), "{config:?}");
    }
}

#[test]
fn predictors_leave_no_trace() {
    for config in strategies() {
        let mut strategy = build(&config);
        let batch = batch_for(strategy.as_ref());
        let image = &batch.labelled.as_ref().unwrap().image;
        let answers = |strategy: &dyn Strategy| -> Vec<Tensor> {
            let _guard = no_grad_guard();
            let networks = strategy.predictors();
            networks
                .iter()
                .map(|(_, n)| n.forward(image).unwrap())
                .collect()
        };
        let before = state(strategy.as_ref());
        let first = answers(strategy.as_ref());
        assert!(!first.is_empty() && first.iter().all(|logits| !logits.requires_grad()));
        assert!(equal(&before, &state(strategy.as_ref())), "{config:?}");
        assert!(
            first
                .iter()
                .zip(answers(strategy.as_ref()))
                .all(|(a, b)| a.equal(&b))
        );
        // What was predicted in between does not change the next step.
        let mut undisturbed = build(&config);
        train(strategy.as_mut(), 0..1, (1e-3, 1));
        train(undisturbed.as_mut(), 0..1, (1e-3, 1));
        assert!(equal(
            &state(strategy.as_ref()),
            &state(undisturbed.as_ref())
        ));
        let candidates = strategy.candidates();
        assert!(!candidates.is_empty() && candidates.iter().all(|c| !c.networks.is_empty()));
    }
}

#[test]
fn no_gradient_reaches_a_teacher() {
    for config in strategies() {
        let mut strategy = build(&config);
        train(strategy.as_mut(), 0..3, (1e-3, 1));
        for teacher in strategy.teachers() {
            for (name, tensor) in teacher.network().parameters().iter() {
                assert!(!tensor.grad().defined(), "{config:?}: {name}");
            }
        }
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
    let mut bcp = build(&StrategyConfig::Bcp(BcpConfig::default()));
    assert!(same(bcp.as_ref()));
    train(bcp.as_mut(), 0..2, (1e-3, 1));
    assert!(same(bcp.as_ref()));
    train(bcp.as_mut(), 2..3, (1e-3, 1));
    assert!(!same(bcp.as_ref()));
}
