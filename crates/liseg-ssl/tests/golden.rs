//! Every reference case of the semi-supervised methods: masks, losses, gradients, averages, ramps.
//!
//! The numbers were computed in f64 by the formulas of the published codes; each case brings its
//! tolerance.

use crate::common::{Table, golden, images};
use liseg_morphology::{Connectivity, connected_components};
use liseg_nn::bridge::tensor_to_labels;
use liseg_nn::loss::DiceCrossEntropy;
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, SegmentationNet, schedule};
use liseg_ssl::{
    Batch, Cps, CpsConfig, Decay, FrequencyWindow, Guidance, Labelled, PasteBox, Progress,
    Reduction, RegionDice, Scope, StepContext, Strategy, Teacher, TeacherLogits, Unlabelled, clean,
    complementary_factors, hard_labels, masked_loss, mix_amplitudes, mix_spectra, paste,
    paste_images, published_half_width, region_cross_entropy, region_loss, relative_sides,
    share_of_run, sides_in_voxels, softmax_difference, stepped_ramp, sure_cross_entropy,
    with_partner,
};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// A case, its tensors, and how its outputs are compared.
struct Case<'a> {
    json: &'a Value,
    of: &'a dyn Fn(&str) -> Option<Tensor>,
    /// Outputs that have been compared.
    compared: RefCell<BTreeSet<String>>,
}

impl Case<'_> {
    fn name(&self) -> &str {
        self.json["name"].as_str().unwrap()
    }

    fn op(&self) -> &str {
        self.json["op"].as_str().unwrap()
    }

    fn input(&self, name: &str) -> Tensor {
        (self.of)(&format!("in.{name}")).unwrap_or_else(|| panic!("{}: no {name}", self.name()))
    }

    fn label(&self, name: &str) -> Tensor {
        self.input(name).to_kind(Kind::Int64)
    }

    fn leaf(&self, name: &str) -> Tensor {
        self.input(name).set_requires_grad(true)
    }

    fn number(&self, name: &str) -> f64 {
        self.json["params"][name].as_f64().unwrap()
    }

    fn count(&self, name: &str) -> usize {
        self.json["params"][name].as_u64().unwrap() as usize
    }

    fn list<T: serde::de::DeserializeOwned>(&self, part: &str, name: &str) -> T {
        serde_json::from_value(self.json[part][name].clone()).unwrap()
    }

    /// An output to compare; every one of a case has to be asked for.
    fn output(&self, name: &str) -> &Value {
        self.compared.borrow_mut().insert(name.to_owned());
        &self.json["outputs"][name]
    }

    fn has(&self, output: &str) -> bool {
        !self.json["outputs"][output].is_null()
    }

    /// Compares an output without tolerance.
    fn check_exact<T: serde::de::DeserializeOwned + PartialEq + Debug>(
        &self,
        output: &str,
        found: &T,
    ) {
        let expected: T = serde_json::from_value(self.output(output).clone()).unwrap();
        assert_eq!(*found, expected, "{} {output}", self.name());
    }

    /// Compares one output, a number or a tensor, by the rule of the case.
    fn check(&self, output: &str, found: &Tensor) {
        let rule = &self.json["tolerance"][output];
        let what = format!("{} {output}", self.name());
        let expected = match self.output(output) {
            Value::String(_) => (self.of)(&format!("out.{output}")).unwrap(),
            number => Tensor::from(number.as_f64().unwrap()),
        };
        let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
        assert_eq!(found.size(), expected.size(), "{what}");
        let (absolute, relative) = match rule["match"].as_str().unwrap() {
            "exact" => (0.0, 0.0),
            _ => (rule["abs"].as_f64().unwrap(), rule["rel"].as_f64().unwrap()),
        };
        let allowed = expected.abs() * relative + absolute;
        let excess = ((found - expected).abs() - allowed).max().double_value(&[]);
        assert!(excess <= 0.0, "{what}: {excess} beyond the tolerance");
    }

    fn check_numbers(&self, output: &str, found: &[f64]) {
        let expected: Vec<f64> = match self.output(output) {
            list @ Value::Array(_) => serde_json::from_value(list.clone()).unwrap(),
            number => vec![number.as_f64().unwrap()],
        };
        let rule = &self.json["tolerance"][output];
        let part = |name: &str| rule[name].as_f64().unwrap_or(0.0);
        assert_eq!(found.len(), expected.len(), "{}", self.name());
        for (found, expected) in found.iter().zip(&expected) {
            let allowed = part("abs") + part("rel") * expected.abs();
            assert!(
                (found - expected).abs() <= allowed,
                "{}: {found}",
                self.name()
            );
        }
    }
}

/// Runs `check` on every case of a group and insists on their number, and on all outputs of each.
fn every_case(group: &str, expected: usize, check: &dyn Fn(&Case<'_>)) {
    let seen = golden(group, &mut |json, of| {
        let case = Case {
            json,
            of,
            compared: RefCell::default(),
        };
        check(&case);
        let outputs = json["outputs"].as_object().unwrap();
        let compared = case.compared.borrow();
        let left: Vec<&String> = outputs.keys().filter(|o| !compared.contains(*o)).collect();
        assert!(
            left.is_empty(),
            "{}: nothing compares {left:?}",
            case.name()
        );
    });
    assert_eq!(seen, expected, "{group}");
}

fn unknown(case: &Case<'_>) {
    panic!("{}: nothing checks `{}`", case.name(), case.op());
}

/// The gradients of both networks in one step of CPS, and its logged terms.
fn cps_step(config: &CpsConfig, case: &Case<'_>) -> ([Tensor; 2], BTreeMap<&'static str, f64>) {
    let (a, b, label) = (
        case.input("logits_a"),
        case.input("logits_b"),
        case.label("label"),
    );
    // One more sample, never asked for, keeps equal networks apart.
    let spare = Tensor::cat(&[&b, &(b.narrow(0, 0, 1) + 1.0)], 0);
    let first = Tensor::cat(&[&a, &a.narrow(0, 0, 1)], 0);
    let networks: [Box<dyn SegmentationNet>; 2] = [Table::boxed(&first), Table::boxed(&spare)];
    let mut cps = Cps::new(config.clone(), networks, OptimiserConfig::adam()).unwrap();
    let (labelled, all) = (label.size()[0], a.size()[0]);
    let batch = Batch {
        labelled: Some(Labelled {
            image: images(0, labelled, &a),
            label,
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: images(labelled, all, &a),
            strong: vec![],
            valid: None,
        }),
    };
    let progress = Progress {
        iteration: 5,
        iterations: 10,
    };
    let mut context = StepContext::new(progress, 1);
    cps.step(&batch, &mut context).unwrap();
    let of = |i: usize| {
        let network = cps.learners()[i].network();
        let grad = network.parameters().get("logits").unwrap().grad();
        grad.narrow(0, 0, all)
    };
    ([of(0), of(1)], context.log().unwrap())
}

fn cps_config(case: &Case<'_>) -> CpsConfig {
    CpsConfig {
        labelled: case.count("labelled"),
        unlabelled: case.count("unlabelled"),
        ramp: 0.0,
        loss: DiceCrossEntropy::cross_entropy(),
        ..CpsConfig::default()
    }
}

#[test]
fn cross_pseudo_supervision() {
    every_case("cps", 7, &|case| match case.op() {
        "cps_loss" => {
            let config = CpsConfig {
                weight: case.number("lambda"),
                reduction: if case.json["params"]["reduction"] == "sum" {
                    Reduction::Sum
                } else {
                    Reduction::Joint
                },
                ..cps_config(case)
            };
            let ([a, b], log) = cps_step(&config, case);
            case.check("grad_a", &a);
            case.check("grad_b", &b);
            let both = |term: &str, twin: &str| log[term] + log[twin];
            let labelled = both("pseudo_labelled", "pseudo_labelled_b");
            let unlabelled = both("pseudo", "pseudo_b");
            let (l, u) = (config.labelled as f64, config.unlabelled as f64);
            let joint = (l * labelled + u * unlabelled) / (l + u);
            let cross = match config.reduction {
                Reduction::Sum => labelled + unlabelled,
                Reduction::Joint => joint,
            };
            case.check_numbers("cps_joint_mean", &[joint]);
            for (output, found) in [
                ("supervised_a", log["supervised"]),
                ("supervised_b", log["supervised_b"]),
                ("cps_labelled", labelled),
                ("cps_unlabelled", unlabelled),
                (
                    "total",
                    both("supervised", "supervised_b") + config.weight * cross,
                ),
            ] {
                // Two networks that are one have their common mean alone.
                if case.has(output) || case.name() != "identical_networks" {
                    case.check_numbers(output, &[found]);
                }
            }
        }
        "cps_medical_loss" => {
            let ramp = schedule::sigmoid_ramp(case.count("ramp_position") as u64, 200);
            let weight = case.number("weight_max") * ramp;
            case.check("weight", &Tensor::from(weight));
            let config = CpsConfig {
                weight,
                apply_to: Scope::Unlabelled,
                loss: DiceCrossEntropy {
                    cross_entropy_weight: 0.0,
                    ..DiceCrossEntropy::cross_entropy()
                },
                ..cps_config(case)
            };
            let (pseudo, log) = cps_step(&config, case);
            let mut total = weight * (log["pseudo"] + log["pseudo_b"]);
            case.check_numbers("pseudo_a", &[log["pseudo"]]);
            case.check_numbers("pseudo_b", &[log["pseudo_b"]]);
            for (i, side) in ["a", "b"].into_iter().enumerate() {
                let logits = case.leaf(&format!("logits_{side}"));
                let label = case.label("label");
                let of_labelled = logits.narrow(0, 0, 2);
                let everywhere = label.ones_like();
                let loss = masked_loss(
                    &of_labelled,
                    &label,
                    &everywhere,
                    RegionDice::BatchSquareEps5,
                );
                let loss = loss.unwrap() * 0.5;
                case.check(&format!("supervised_{side}"), &loss);
                loss.backward();
                case.check(&format!("grad_{side}"), &(logits.grad() + &pseudo[i]));
                total += loss.double_value(&[]);
            }
            case.check_numbers("total", &[total]);
        }
        "cps_cutmix" => {
            let (first, second) = (
                case.input("teacher_logits_0"),
                case.input("teacher_logits_1"),
            );
            let inside = case.input("mask").ne(0.0).unsqueeze(0);
            let label = paste_images(&first, &second, &inside)
                .unwrap()
                .argmax(1, false);
            case.check("pseudo_label", &label);
            let student = case.leaf("student_logits");
            let everywhere = label.ones_like();
            let sum = sure_cross_entropy(&student, &label, &everywhere).unwrap();
            let loss = sum / everywhere.numel() as f64;
            case.check("loss", &loss);
            loss.backward();
            case.check("grad", &student.grad());
        }
        _ => unknown(case),
    });
}

#[test]
fn dice_variants() {
    every_case("dice", 20, &|case| {
        let variant = match case.op() {
            "sample_linear" => RegionDice::SampleLinear,
            "batch_square" => RegionDice::BatchSquare,
            "batch_square_eps5" => RegionDice::BatchSquareEps5,
            "batch_square_background_unmasked" => RegionDice::BatchSquareBackgroundUnmasked,
            _ => return unknown(case),
        };
        let logits = case.leaf("logits");
        let p = logits.softmax(1, Kind::Float);
        let mask = (case.of)("in.mask");
        let loss = variant
            .loss(&p, &case.label("target"), mask.as_ref())
            .unwrap();
        case.check("loss", &loss);
        if (case.of)("out.grad").is_some() {
            loss.backward();
            case.check("grad", &logits.grad());
        }
    });
}

fn connectivity(case: &Case<'_>) -> Connectivity {
    match case.count("connectivity") {
        6 => Connectivity::Face,
        18 => Connectivity::Edge,
        _ => Connectivity::Vertex,
    }
}

/// The two halves of the loss of a region.
fn dice_and_cross_entropy(logits: &Tensor, label: &Tensor, region: &Tensor) -> [Tensor; 2] {
    let log_p = logits.log_softmax(1, Kind::Float);
    let dice = RegionDice::SampleLinear.loss(&log_p.exp(), label, Some(region));
    let cross_entropy = region_cross_entropy(&log_p, label, region);
    [dice.unwrap(), cross_entropy.unwrap()]
}

#[test]
fn bidirectional_copy_paste() {
    every_case("bcp", 23, &|case| match case.op() {
        "bcp_box_size" => {
            let shape: [usize; 3] = case.list("inputs", "shape");
            let size = PasteBox::sides_of_share(shape, case.number("ratio"));
            case.check_exact("size", &size);
            case.check_exact("offsets_per_axis", &PasteBox::offsets(shape, size));
            case.check_exact("zero_voxels", &size.iter().product::<usize>());
        }
        "bcp_mix" => {
            let inside = case.input("mask").eq(0.0);
            let pseudo = |side: &str| {
                let logits = case.input(&format!("teacher_logits_{side}"));
                clean(&hard_labels(&logits).unwrap(), connectivity(case)).unwrap()
            };
            let (a, b) = (pseudo("a"), pseudo("b"));
            case.check("pseudo_a", &a);
            case.check("pseudo_b", &b);
            let mix = |outer: &Tensor, inner: &Tensor| paste(outer, inner, &inside).unwrap();
            let image = |name: &str| case.input(name);
            case.check(
                "image_in",
                &mix(&image("labelled_a"), &image("unlabelled_a")),
            );
            case.check(
                "image_out",
                &mix(&image("unlabelled_b"), &image("labelled_b")),
            );
            case.check("label_in", &mix(&case.label("label_a"), &a));
            case.check("label_out", &mix(&b, &case.label("label_b")));
        }
        "bcp_loss" => {
            let alpha = case.number("alpha");
            let outside = case.input("mask").ne(0.0);
            let inside = outside.logical_not();
            let (x_in, x_out) = (
                case.leaf("student_logits_in"),
                case.leaf("student_logits_out"),
            );
            let terms = |logits: &Tensor, [outer, inner]: [(&str, f64); 2]| {
                let of = |(label, weight): (&str, f64), region: &Tensor| {
                    dice_and_cross_entropy(logits, &case.label(label), region).map(|t| t * weight)
                };
                let ([dice, ce], [dice_inner, ce_inner]) =
                    (of(outer, &outside), of(inner, &inside));
                [dice + dice_inner, ce + ce_inner]
            };
            let [dice, cross_entropy] = terms(&x_in, [("label_a", 1.0), ("pseudo_a", alpha)]);
            case.check("dice_in", &dice);
            case.check("ce_in", &cross_entropy);
            let [dice, cross_entropy] = terms(&x_out, [("pseudo_b", alpha), ("label_b", 1.0)]);
            case.check("dice_out", &dice);
            case.check("ce_out", &cross_entropy);
            let part = |logits: &Tensor, label: &str, region: &Tensor| {
                region_loss(logits, &case.label(label), region).unwrap()
            };
            let loss_in =
                part(&x_in, "label_a", &outside) + part(&x_in, "pseudo_a", &inside) * alpha;
            let loss_out =
                part(&x_out, "pseudo_b", &outside) * alpha + part(&x_out, "label_b", &inside);
            case.check("loss_in", &loss_in);
            case.check("loss_out", &loss_out);
            let total = loss_in + loss_out;
            case.check("total", &total);
            total.backward();
            case.check("grad_in", &x_in.grad());
            case.check("grad_out", &x_out.grad());
        }
        "bcp_loss_one_side" => {
            let outside = case.input("mask").ne(0.0);
            let logits = case.input("student_logits");
            let inside = outside.logical_not();
            let weights = [case.number("weight_background"), case.number("weight_crop")];
            let regions = [("background_label", &outside), ("crop_label", &inside)];
            let sum = |of: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
                let [outer, inner] = regions.map(|(label, region)| of(&case.label(label), region));
                outer * weights[0] + inner * weights[1]
            };
            case.check(
                "loss",
                &sum(&|label, region| region_loss(&logits, label, region).unwrap()),
            );
            for (term, output) in ["dice", "ce"].into_iter().enumerate() {
                let of = |label: &Tensor, region: &Tensor| {
                    dice_and_cross_entropy(&logits, label, region)[term].shallow_clone()
                };
                case.check(output, &sum(&of));
            }
        }
        "bcp_pretrain_loss" => {
            let logits = case.leaf("logits");
            let label = case.label("label");
            let loss = region_loss(&logits, &label, &label.ones_like()).unwrap();
            case.check("loss", &loss);
            loss.backward();
            case.check("grad", &logits.grad());
        }
        "largest_component" => {
            let volume = case.label("volume").unsqueeze(0);
            let kept = clean(&volume, connectivity(case)).unwrap();
            case.check("kept", &kept.squeeze_dim(0));
            let mask = tensor_to_labels(&volume.squeeze_dim(0))
                .unwrap()
                .mapv(|v| v > 0);
            let components = connected_components(mask.view(), connectivity(case));
            case.check_exact("components", &components.count());
        }
        "bcp_threshold" => {
            let logits = case.input("teacher_logits");
            case.check("foreground", &hard_labels(&logits).unwrap());
            case.check("argmax", &logits.argmax(1, false));
        }
        _ => unknown(case),
    });
}

#[test]
fn fourier_amplitudes() {
    every_case("fourier", 24, &|case| match case.op() {
        "half_width" => {
            let side: usize = case.list("inputs", "min_side");
            case.check_exact(
                "half_width",
                &published_half_width(side, case.number("beta")),
            );
        }
        "amplitude_mix" => {
            let axes: Vec<usize> = case.list("params", "axes");
            let widths: Vec<usize> = case.list("params", "half_width");
            let mut window = FrequencyWindow {
                half_width: [None; 3],
            };
            for (axis, width) in axes.into_iter().zip(widths) {
                window.half_width[axis] = Some(width);
            }
            let volume = |name: &str| case.input(name).unsqueeze(0).unsqueeze(0);
            let (source, target) = (volume("source"), volume("target"));
            let share = case.number("lambda");
            let lambda = Tensor::from_slice(&[share as f32]);
            let floor = case.json["params"]["floor"].as_f64().unwrap_or(0.0);
            let mixed = mix_spectra(&(&source - floor), &(&target - floor), &lambda, window);
            let mixed = (mixed.unwrap() + floor).squeeze();
            case.check("unclipped", &mixed);
            if case.has("mean_unclipped") {
                case.check(
                    "mean_unclipped",
                    &mixed.to_kind(Kind::Double).mean(Kind::Double),
                );
            }
            let clipped = mix_amplitudes(&source, &target, &[share], window).unwrap();
            if case.has("clipped") {
                case.check("clipped", &clipped.squeeze());
            }
            if case.name() == "signed_without_offset" {
                let shift = source.min().minimum(&target.min());
                let offset = mix_spectra(&(&source - &shift), &(&target - &shift), &lambda, window);
                let mean = (offset.unwrap() + shift)
                    .to_kind(Kind::Double)
                    .mean(Kind::Double);
                case.check("mean_with_offset", &mean);
                case.check(
                    "target_mean",
                    &target.to_kind(Kind::Double).mean(Kind::Double),
                );
            }
        }
        _ => unknown(case),
    });
}

#[test]
fn midss() {
    every_case("midss", 8, &|case| match case.op() {
        "midss_objective" => {
            let inside = case.input("box").ne(0.0);
            let teacher = TeacherLogits {
                unlabelled: case.input("teacher_logits_u"),
                labelled_inside: case.input("teacher_logits_ul"),
                unlabelled_inside: case.input("teacher_logits_lu"),
            };
            let g = Guidance::new(&teacher, &inside, case.number("threshold")).unwrap();
            let label = case.label("label");
            let known = label.ones_like().to_kind(Kind::Bool);
            let mix = |outer: &Tensor, inner: &Tensor| paste(outer, inner, &inside).unwrap();
            let (target_ul, mask_ul) = (mix(&g.pseudo, &label), mix(&g.sure, &known));
            let (target_lu, mask_lu) = (mix(&label, &g.pseudo), mix(&known, &g.sure));
            for (name, map) in [
                ("pseudo_u", &g.pseudo),
                ("mask_u", &g.sure),
                ("pseudo_symmetric", &g.symmetric),
                ("mask_symmetric", &g.symmetric_sure),
                ("target_ul", &target_ul),
                ("mask_ul", &mask_ul),
                ("target_lu", &target_lu),
                ("mask_lu", &mask_lu),
            ] {
                case.check(name, map);
            }
            let dice = if case.json["params"]["dice_background_masked"] == true {
                RegionDice::BatchSquare
            } else {
                RegionDice::BatchSquareBackgroundUnmasked
            };
            let w = case.number("weight");
            let parts = [
                ("supervised", "labelled", &label, &known, 1.0),
                ("unsup_ul", "ul", &target_ul, &mask_ul, w),
                ("unsup_lu", "lu", &target_lu, &mask_lu, w),
                (
                    "unsup_strong",
                    "strong",
                    &g.symmetric,
                    &g.symmetric_sure,
                    w * w,
                ),
            ];
            let mut total = Tensor::from(0.0f32);
            for (output, input, label, mask, weight) in parts {
                let logits = case.leaf(&format!("student_logits_{input}"));
                let loss = masked_loss(&logits, label, mask, dice).unwrap();
                case.check(output, &loss);
                (&loss * weight).backward();
                case.check(&format!("grad_{input}"), &logits.grad());
                total += loss.detach() * weight;
            }
            case.check("total", &total);
        }
        "box_extent" => {
            let shape: [usize; 3] = case.list("inputs", "shape");
            let ratio = |name: &str| case.number(name);
            let sides = relative_sides(ratio("fraction"), ratio("ratio_h"), ratio("ratio_w"));
            case.check_numbers("relative", &sides);
            let fits = sides.iter().all(|&s| s <= 1.0);
            case.check_exact("fits", &fits);
            case.check_exact("size", &sides_in_voxels(sides, shape));
        }
        _ => unknown(case),
    });
}

/// A network of the two parameters that the reference averages.
struct Pair(liseg_nn::Parameters);

impl Pair {
    fn boxed(case: &Case<'_>, prefix: &str) -> Box<dyn SegmentationNet> {
        let mut parameters = liseg_nn::Parameters::new(Device::Cpu);
        for name in ["conv.weight", "norm.bias"] {
            let values = case.input(&format!("{prefix}.{name}"));
            let _ = parameters.add(name, values).unwrap();
        }
        Box::new(Self(parameters))
    }
}

impl SegmentationNet for Pair {
    fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
        Ok(vec![images.shallow_clone()])
    }
    fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
        Ok(images.shallow_clone())
    }
    fn parameters(&self) -> &liseg_nn::Parameters {
        &self.0
    }
    fn parameters_mut(&mut self) -> &mut liseg_nn::Parameters {
        &mut self.0
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
fn teachers() {
    every_case("teacher", 16, &|case| match case.op() {
        "ema_update" => {
            let start = Pair::boxed(case, "teacher");
            let spare = Pair::boxed(case, "student_0");
            let mut teacher = Teacher::copy_of(start.as_ref(), "teacher", spare).unwrap();
            let decays: Vec<f64> = case.list("params", "decays");
            for (i, decay) in decays.into_iter().enumerate() {
                let student = Pair::boxed(case, &format!("student_{i}"));
                teacher.follow(student.as_ref(), decay).unwrap();
            }
            for (name, values) in teacher.network().parameters().iter() {
                case.check(&format!("teacher.{name}"), values);
            }
        }
        "ema_decay" => {
            let decay = Decay {
                rate: case.number("decay"),
                warm_up: true,
            };
            let step: u64 = case.list("inputs", "step");
            case.check_numbers("decay", &[decay.at(step)]);
        }
        "consistency_mse" => {
            let student = case.leaf("student_logits");
            let loss = softmax_difference(&student, &case.input("teacher_logits"), None).unwrap();
            case.check("loss", &loss);
            loss.backward();
            case.check("grad", &student.grad());
        }
        "weak_to_strong_objective" => {
            let p = case.input("teacher_logits").softmax(1, Kind::Float);
            let (confidence, label) = p.max_dim(1, false);
            let logits = case.leaf("student_logits_labelled");
            let truth = case.label("label");
            let voxels = truth.numel() as f64;
            let supervised =
                sure_cross_entropy(&logits, &truth, &truth.ones_like()).unwrap() / voxels;
            case.check("supervised", &supervised);
            let mut total = &supervised * 0.5;
            let mut students = Vec::new();
            for view in ["1", "2"] {
                let inside = case.input(&format!("box_{view}")).ne(0.0);
                let target = with_partner(&label, &inside).unwrap();
                let sure = with_partner(&confidence, &inside)
                    .unwrap()
                    .ge(case.number("threshold"));
                case.check(&format!("target_{view}"), &target);
                case.check(&format!("mask_{view}"), &sure);
                let student = case.leaf(&format!("student_logits_{view}"));
                let loss = sure_cross_entropy(&student, &target, &sure).unwrap() / voxels;
                case.check(&format!("strong_{view}"), &loss);
                total += loss * 0.25;
                students.push((view, student));
            }
            case.check("total", &total);
            total.backward();
            case.check("grad_labelled", &logits.grad());
            for (view, student) in students {
                case.check(&format!("grad_{view}"), &student.grad());
            }
        }
        "complementary_dropout" => {
            let kept = case.input("kept_channels_view_1");
            let kept: Vec<Vec<bool>> = (0..kept.size()[0])
                .map(|i| Vec::<f32>::try_from(kept.get(i)).unwrap())
                .map(|row| row.into_iter().map(|v| v != 0.0).collect())
                .collect();
            let spared: Vec<usize> = case.list("params", "spared_items");
            let factors = complementary_factors(&kept, &spared).unwrap();
            let flat = factors.view([factors.size()[0], factors.size()[1]]);
            case.check("multiplier", &flat);
            case.check("features", &(case.input("features") * factors));
        }
        _ => unknown(case),
    });
}

#[test]
fn schedules() {
    every_case("schedule", 9, &|case| {
        let steps = |name: &str| case.list::<Vec<u64>>("inputs", name);
        let numbers: Vec<f64> = match case.op() {
            "sigmoid_ramp" => {
                // Whole steps: lengths of one step come in tenths.
                let tenth = |t: f64| (t * 10.0).round() as u64;
                let length = tenth(case.number("length"));
                let times: Vec<f64> = case.list("inputs", "t");
                let ramp = |t: &f64| schedule::sigmoid_ramp(tenth(*t), length);
                times.iter().map(ramp).collect()
            }
            "consistency_weight" => {
                let every = case.number("iterations_per_ramp_step");
                let iterations = (every * case.number("length")) as u64;
                let weight = |iteration| {
                    let progress = Progress {
                        iteration,
                        iterations,
                    };
                    case.number("weight_max") * stepped_ramp(progress, 200)
                };
                steps("iteration").into_iter().map(weight).collect()
            }
            "amplitude_degree" => {
                let iterations = case.count("max_iterations") as u64;
                let share = |iteration| {
                    share_of_run(Progress {
                        iteration,
                        iterations,
                    })
                };
                let found: Vec<f64> = steps("iteration").into_iter().map(share).collect();
                return case.check_numbers("upper_bound_of_lambda", &found);
            }
            "poly_learning_rate" => {
                let total = case.count("max_iterations") as u64;
                let (base, power) = (case.number("base"), case.number("power"));
                let rate = |i| schedule::polynomial(base, i, total, power);
                steps("iteration").into_iter().map(rate).collect()
            }
            "step_learning_rate" => {
                let every = case.count("every") as u64;
                let (base, factor) = (case.number("base"), case.number("factor"));
                let rate = |i| schedule::stairs(base, i, every, factor);
                steps("finished_iterations").into_iter().map(rate).collect()
            }
            _ => return unknown(case),
        };
        case.check_numbers("value", &numbers);
    });
}
