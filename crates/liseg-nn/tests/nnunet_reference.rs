//! Losses, schedules and optimisers against the numbers of nnU-Net and PyTorch.
//!
//! The numbers lie in the repository's `tests/fixtures/nnunet`.

use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target, downsample_target};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{
    Optimiser, OptimiserConfig, Parameters, TensorMap, checkpoint, clip_gradients, schedule,
};
use serde_json::Value;
use std::path::Path;

struct Golden {
    cases: Vec<Value>,
    tensors: TensorMap,
}

impl Golden {
    fn read(group: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nnunet");
        let text = std::fs::read_to_string(folder.join(format!("{group}.json"))).unwrap();
        let root: Value = serde_json::from_str(&text).unwrap();
        let (tensors, _) = checkpoint::read(&folder.join(format!("{group}.safetensors"))).unwrap();
        Self {
            cases: root["cases"].as_array().unwrap().clone(),
            tensors,
        }
    }

    fn case(&self, name: &str) -> &Value {
        self.cases.iter().find(|c| c["name"] == name).unwrap()
    }

    /// The tensor that a field such as `"t:name"` points to.
    fn tensor(&self, field: &Value) -> &Tensor {
        &self.tensors[field.as_str().unwrap().strip_prefix("t:").unwrap()]
    }
}

fn close(found: &Tensor, expected: &Tensor, absolute: f64, relative: f64, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let allowed = expected.abs() * relative + absolute;
    let excess = ((found - expected).abs() - allowed).max().double_value(&[]);
    assert!(excess <= 0.0, "{what}: {excess} beyond the tolerance");
}

fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach_copy().set_requires_grad(true)
}

#[test]
fn dice_and_cross_entropy_match() {
    let golden = Golden::read("training");
    let cases = golden.cases.iter().filter(|c| c["op"] == "dice_ce_loss");
    let mut seen = 0;
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let params = &case["params"];
        let loss = DiceCrossEntropy {
            cross_entropy_weight: params["weight_ce"].as_f64().unwrap(),
            dice_weight: params["weight_dice"].as_f64().unwrap(),
            smooth: params["smooth"].as_f64().unwrap(),
            batch_dice: params["batch_dice"].as_bool().unwrap(),
            include_background: params["do_bg"].as_bool().unwrap(),
        };
        let logits = leaf(golden.tensor(&case["inputs"]["logits"]));
        let label = golden
            .tensor(&case["inputs"]["target"])
            .to_kind(Kind::Int64)
            .squeeze_dim(1);
        let target = match params["ignore_label"].as_i64() {
            None => Target { label, valid: None },
            Some(ignored) => {
                let valid = label.ne(ignored);
                Target {
                    label: label.where_self(&valid, &Tensor::from(0i64)),
                    valid: Some(valid),
                }
            }
        };
        let terms = loss.terms(&logits, &target).unwrap();
        let outputs = &case["outputs"];
        let number = |key: &str| outputs[key].as_f64();
        for (found, key) in [
            (&terms.dice, "dice_term"),
            (&terms.cross_entropy, "ce_term"),
        ] {
            // Without any valid voxel plain cross-entropy is NaN; ours is 0 by definition.
            let expected = number(key).unwrap_or(0.0);
            let found = found.double_value(&[]);
            assert!(
                (found - expected).abs() <= 2e-6,
                "{name} {key}: {found}, not {expected}"
            );
        }
        let total = terms.total.double_value(&[]);
        assert!(
            (total - number("loss").unwrap()).abs() <= 4e-6,
            "{name}: {total}"
        );
        terms.total.backward();
        let expected = golden.tensor(&outputs["grad_logits"]);
        close(&logits.grad(), expected, 5e-8, 2e-5, name);
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} cases");
}

#[test]
fn deep_supervision_matches() {
    let golden = Golden::read("training");
    let case = golden.case("deep_supervision");
    let scales: Vec<Tensor> = (0..3)
        .map(|i| leaf(golden.tensor(&case["inputs"][format!("logits{i}")])))
        .collect();
    let target = |i: usize| {
        golden
            .tensor(&case["inputs"][format!("target{i}")])
            .to_kind(Kind::Int64)
            .squeeze_dim(1)
    };
    // The case draws the targets of its scales independently; compare scale by scale.
    let loss = DiceCrossEntropy {
        batch_dice: true,
        ..DiceCrossEntropy::default()
    };
    let weights = DeepSupervision::weights(3);
    let mut total = 0.0;
    for (i, weight) in weights.iter().enumerate().take(2) {
        let target = Target {
            label: target(i),
            valid: None,
        };
        let term = loss.terms(&scales[i], &target).unwrap().total * *weight;
        total += term.double_value(&[]);
        term.backward();
        let expected = golden.tensor(&case["outputs"][format!("grad{i}")]);
        close(&scales[i].grad(), expected, 5e-8, 2e-5, "deep supervision");
    }
    assert!((total - case["outputs"]["loss"].as_f64().unwrap()).abs() < 4e-6);

    for row in golden.case("ds_weights")["outputs"]["table"]
        .as_array()
        .unwrap()
    {
        let found = DeepSupervision::weights(row["n_outputs"].as_u64().unwrap() as usize);
        let expected: Vec<f64> = serde_json::from_value(row["weights"].clone()).unwrap();
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-12, "{found:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_whole_deep_supervision_is_the_sum_of_its_scales() {
    let fine = leaf(&Tensor::randn([1, 2, 4, 8, 8], (Kind::Float, Device::Cpu)));
    let coarse = leaf(&Tensor::randn([1, 2, 2, 4, 4], (Kind::Float, Device::Cpu)));
    let last = leaf(&Tensor::randn([1, 2, 1, 2, 2], (Kind::Float, Device::Cpu)));
    let label = Tensor::randint(2, [1, 4, 8, 8], (Kind::Int64, Device::Cpu));
    let loss = DiceCrossEntropy::default();
    let at = |scale: &Tensor, shape| {
        let label = downsample_target(&label, shape).unwrap();
        loss.terms(scale, &Target { label, valid: None })
            .unwrap()
            .total
            .double_value(&[])
    };
    let expected = at(&fine, [4, 8, 8]) * 2.0 / 3.0 + at(&coarse, [2, 4, 4]) / 3.0;
    let scales = [fine, coarse, last];
    let target = Target {
        label: label.shallow_clone(),
        valid: None,
    };
    let terms = DeepSupervision::new(loss).terms(&scales, &target).unwrap();
    assert!((terms.total.double_value(&[]) - expected).abs() < 1e-6);
}

#[test]
fn targets_are_brought_to_coarser_grids_exactly() {
    let golden = Golden::read("augment_v2");
    for name in ["ds_targets", "ds_targets_odd"] {
        let case = golden.case(name);
        let labels = golden.tensor(&case["inputs"]["seg"]).to_kind(Kind::Int64);
        for (key, field) in case["outputs"].as_object().unwrap() {
            let expected = golden.tensor(field).to_kind(Kind::Int64);
            let size = expected.size();
            let [z, y, x] = size[size.len() - 3..] else {
                panic!("{size:?}")
            };
            let (old, flat) = (labels.size(), |t: &Tensor| t.view([-1, z, y, x]));
            let n = old.len();
            let maps = labels.view([-1, old[n - 3], old[n - 2], old[n - 1]]);
            let found = downsample_target(&maps, [z, y, x]).unwrap();
            assert!(found.equal(&flat(&expected)), "{name} {key}");
        }
    }
}

#[test]
fn the_schedule_and_sgd_with_clipping_match() {
    let golden = Golden::read("training");
    for row in golden.case("poly_lr")["outputs"]["table"]
        .as_array()
        .unwrap()
    {
        let number = |key: &str| row[key].as_f64().unwrap();
        let found = schedule::polynomial(
            number("initial_lr"),
            number("epoch") as u64,
            number("epochs") as u64,
            0.9,
        );
        assert!((found - number("lr")).abs() < 1e-12, "{row}");
    }

    let case = golden.case("sgd_nesterov");
    let rates: Vec<f64> = serde_json::from_value(case["params"]["lr"].clone()).unwrap();
    let norms: Vec<f64> = serde_json::from_value(case["outputs"]["grad_norms"].clone()).unwrap();
    let mut parameters = Parameters::new(Device::Cpu);
    let leaves: Vec<Tensor> = ["p0", "p1"]
        .iter()
        .map(|name| {
            parameters
                .add(name, golden.tensor(&case["inputs"][*name]).copy())
                .unwrap()
        })
        .collect();
    let mut optimiser = Optimiser::new(OptimiserConfig::sgd(), &parameters).unwrap();
    for (step, (&rate, &norm)) in rates.iter().zip(&norms).enumerate() {
        // A loss that is linear in the weights has the wanted gradient.
        let mut loss = Tensor::from(0.0f32);
        for (i, leaf) in leaves.iter().enumerate() {
            let gradient = golden
                .tensor(&case["inputs"][format!("g{i}")])
                .get(step as i64);
            loss += (leaf * gradient).sum(Kind::Float);
        }
        loss.backward();
        let found = clip_gradients(&parameters, 12.0).unwrap();
        assert!(
            (found.0 - norm).abs() < 2e-6 * (1.0 + norm),
            "{found:?}, not {norm}"
        );
        optimiser.step(&parameters, rate).unwrap();
        parameters.zero_grad().unwrap();
        for (i, leaf) in leaves.iter().enumerate() {
            let expected = golden
                .tensor(&case["outputs"][format!("p{i}")])
                .get(step as i64);
            close(
                &leaf.detach(),
                &expected,
                2e-6,
                2e-6,
                &format!("step {step}, p{i}"),
            );
        }
    }
}
