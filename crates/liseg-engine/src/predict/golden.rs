//! nnU-Net's numbers.

use super::export::{labels_on_source_grid, probabilities_on_source_grid};
use super::gaussian::{Weighting, importance_map, importance_profile};
use super::*;
use crate::evaluate::{Evaluation, evaluate};
use liseg_data::Restore;
use liseg_metrics::{EmptyPolicy, Settings};
use liseg_mri::nifti::{read_image, read_labels};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Parameters, SegmentationNet, TensorMap, checkpoint};
use liseg_volume::{Affine, Spacing, Volume};
use ndarray::{Array3, Array4, Axis};
use serde_json::{Value, from_value};
use std::path::{Path, PathBuf};

/// The cases of a group with their tensors, and the folder of both.
fn group(name: &str) -> (Vec<Value>, TensorMap, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nnunet");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap().clone();
    let (tensors, _) = checkpoint::read(&folder.join(format!("{name}.safetensors"))).unwrap();
    (cases, tensors, folder)
}

fn of<'a>(cases: &'a [Value], op: &str) -> Vec<&'a Value> {
    let found: Vec<&Value> = cases.iter().filter(|case| case["op"] == op).collect();
    assert!(!found.is_empty(), "no case of {op}");
    found
}

fn values(tensors: &TensorMap, reference: &Value) -> Vec<f32> {
    let name = reference.as_str().unwrap().strip_prefix("t:").unwrap();
    let tensor = tensors[name].to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0f32; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

fn array4(tensors: &TensorMap, reference: &Value) -> Array4<f32> {
    let name = reference.as_str().unwrap().strip_prefix("t:").unwrap();
    let size: Vec<usize> = tensors[name].size().iter().map(|&n| n as usize).collect();
    let shape = (size[0], size[1], size[2], size[3]);
    Array4::from_shape_vec(shape, values(tensors, reference)).unwrap()
}

fn array3(tensors: &TensorMap, reference: &Value) -> Array3<f32> {
    let name = reference.as_str().unwrap().strip_prefix("t:").unwrap();
    let size: Vec<usize> = tensors[name].size().iter().map(|&n| n as usize).collect();
    Array3::from_shape_vec((size[0], size[1], size[2]), values(tensors, reference)).unwrap()
}

fn assert_close(
    name: &str,
    found: impl IntoIterator<Item = f32>,
    expected: &[f32],
    tolerance: &Value,
) {
    let (abs, rel) = (
        tolerance["abs"].as_f64().unwrap(),
        tolerance["rel"].as_f64().unwrap(),
    );
    let mut count = 0;
    for (found, &expected) in found.into_iter().zip(expected) {
        let (found, expected) = (f64::from(found), f64::from(expected));
        assert!(
            (found - expected).abs() <= abs + rel * expected.abs(),
            "{name}: {found} is not {expected}"
        );
        count += 1;
    }
    assert_eq!(count, expected.len(), "{name}");
}

#[test]
fn importance_maps() {
    let (cases, tensors, _) = group("inference");
    for case in of(&cases, "gaussian_importance_map") {
        let name = case["name"].as_str().unwrap();
        let patch: [usize; 3] = from_value(case["params"]["patch_size"].clone()).unwrap();
        let map = importance_map(patch);
        let tolerance = &case["tolerance"];
        let expected = values(&tensors, &case["outputs"]["f32"]);
        assert_close(name, map.iter().copied(), &expected, &tolerance["f32"]);
        // Half precision, where zeros become the smallest value.
        let half = map.iter().map(|&v| half::f16::from_f32(v).to_f32());
        let least = half
            .clone()
            .filter(|&v| v > 0.0)
            .fold(f32::INFINITY, f32::min);
        let expected = values(&tensors, &case["outputs"]["f16"]);
        assert_close(
            name,
            half.map(|v| v.max(least)),
            &expected,
            &tolerance["f16"],
        );
    }
    for case in of(&cases, "gaussian_importance_profile") {
        let n = case["params"]["n"].as_u64().unwrap() as usize;
        let found = importance_profile(n).into_iter().map(|w| (10.0 * w) as f32);
        let expected = values(&tensors, &case["outputs"]["f32"]);
        assert_close("profile", found, &expected, &case["tolerance"]["f32"]);
    }
    for case in of(&cases, "gaussian_importance_stats") {
        let patch: [usize; 3] = from_value(case["params"]["patch_size"].clone()).unwrap();
        let half: Vec<f64> = importance_map(patch)
            .iter()
            .map(|&v| half::f16::from_f32(v).to_f64().max(2f64.powi(-24)))
            .collect();
        let expected = |key: &str| case["outputs"][key].as_f64().unwrap();
        let sum: f64 = half.iter().sum();
        assert!((sum / expected("sum") - 1.0).abs() < 1e-4);
        assert_eq!(half.iter().copied().fold(0.0, f64::max), expected("max"));
        assert_eq!(
            half.iter().copied().fold(f64::MAX, f64::min),
            expected("min")
        );
        let count = half.iter().filter(|&&v| v <= expected("min")).count() as f64;
        assert!((count / expected("count_at_min") - 1.0).abs() < 0.02);
    }
}

#[test]
fn tile_positions_and_padding() {
    let (cases, tensors, _) = group("inference");
    let table = of(&cases, "sliding_window_steps")[0]["outputs"]["table"].clone();
    for row in table.as_array().unwrap() {
        let image: Vec<usize> = from_value(row["image_size"].clone()).unwrap();
        let tile: Vec<usize> = from_value(row["tile_size"].clone()).unwrap();
        let steps: Vec<Vec<usize>> = from_value(row["steps"].clone()).unwrap();
        let step = row["step_size"].as_f64().unwrap();
        for ((&image, &tile), expected) in image.iter().zip(&tile).zip(&steps) {
            assert_eq!(tile_starts(image, tile, step), *expected, "{row}");
        }
    }
    for case in of(&cases, "pad_to_shape") {
        let tile: [usize; 3] = from_value(case["params"]["new_shape"].clone()).unwrap();
        let slices: Vec<[usize; 2]> = from_value(case["outputs"]["slices"].clone()).unwrap();
        let spatial = &slices[slices.len() - 3..];
        let shape: [usize; 3] = std::array::from_fn(|a| spatial[a][1] - spatial[a][0]);
        // The first case is of one channel and two axes: its third is the channel's.
        let before = padding(shape, tile);
        assert_eq!(
            before,
            std::array::from_fn(|a| spatial[a][0]),
            "{}",
            case["name"]
        );
        let Some(y) = case["outputs"].get("y") else {
            continue;
        };
        // A window of one tile, with a network that hands its input on, sees what is padded.
        let (x, y) = (array4(&tensors, &case["inputs"]["x"]), array4(&tensors, y));
        let padded: [usize; 3] = std::array::from_fn(|a| y.dim_of(a));
        for (x, y) in x.outer_iter().zip(y.outer_iter()) {
            let window = SlidingWindow::new(padded, 0.5, Tta::None).unwrap();
            let seen = std::sync::Mutex::new(Vec::new());
            let net = Echo(Parameters::new(Device::Cpu), &seen);
            window.predict(&[&net], x, &mut || true).unwrap();
            assert_eq!(
                *seen.lock().unwrap(),
                y.iter().copied().collect::<Vec<_>>(),
                "{}",
                case["name"]
            );
        }
    }
}

trait Extent {
    fn dim_of(&self, axis: usize) -> usize;
}

impl Extent for Array4<f32> {
    fn dim_of(&self, axis: usize) -> usize {
        self.len_of(Axis(axis + 1))
    }
}

/// Remembers what it is shown.
struct Echo<'a>(Parameters, &'a std::sync::Mutex<Vec<f32>>);

/// 4 tanh(conv3×3×3(x) / 2).
struct TanhOfConvolution {
    parameters: Parameters,
    weight: Tensor,
    bias: Tensor,
}

macro_rules! network {
    ($name:ty, $parameters:tt, $classes:expr) => {
        impl SegmentationNet for $name {
            fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
                Ok(vec![self.forward(images)?])
            }
            fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
                self.answer(images)
            }
            fn parameters(&self) -> &Parameters {
                &self.$parameters
            }
            fn parameters_mut(&mut self) -> &mut Parameters {
                &mut self.$parameters
            }
            fn classes(&self) -> i64 {
                $classes
            }
            fn stride_product(&self) -> [usize; 3] {
                [1; 3]
            }
            fn head_prefixes(&self) -> Vec<String> {
                vec![]
            }
        }
    };
}

network!(Echo<'_>, 0, 2);
network!(TanhOfConvolution, parameters, 3);

impl Echo<'_> {
    fn answer(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
        let mut values = vec![0.0f32; images.numel()];
        images.f_copy_data(&mut values, images.numel())?;
        if let Ok(mut seen) = self.1.lock() {
            seen.extend(values);
        }
        Ok(Tensor::f_cat(&[images, images], 1)?)
    }
}

impl TanhOfConvolution {
    fn answer(&self, x: &Tensor) -> liseg_nn::Result<Tensor> {
        let y = x.f_conv3d(
            &self.weight,
            Some(&self.bias),
            [1i64; 3],
            [1i64; 3],
            [1i64; 3],
            1,
        )?;
        Ok(y.f_mul_scalar(0.5)?.f_tanh()?.f_mul_scalar(4.0)?)
    }
}

#[test]
fn sliding_windows() {
    let (cases, tensors, _) = group("inference");
    for case in of(&cases, "sliding_window_logits") {
        let name = case["name"].as_str().unwrap();
        let (inputs, params) = (&case["inputs"], &case["params"]);
        let key = |k: &str| inputs[k].as_str().unwrap()[2..].to_owned();
        let net = TanhOfConvolution {
            parameters: Parameters::new(Device::Cpu),
            weight: tensors[&key("conv_weight")].shallow_clone(),
            bias: tensors[&key("conv_bias")].shallow_clone(),
        };
        let mirror: Vec<usize> = from_value(params["mirror_axes"].clone()).unwrap();
        let tta = Tta::Axes(std::array::from_fn(|a| mirror.contains(&a)));
        let tile: [usize; 3] = from_value(params["patch_size"].clone()).unwrap();
        let step = params["step_size"].as_f64().unwrap();
        let image = array4(&tensors, &inputs["image"]);
        let expected = values(&tensors, &case["outputs"]["logits_f32"]);
        let rounded = values(&tensors, &case["outputs"]["logits_f16"]);
        let weights = values(&tensors, &case["outputs"]["weight"]);
        for (storage, batch) in [(Storage::F32, 1), (Storage::F32, 3), (Storage::F16, 1)] {
            let mut window = SlidingWindow::new(tile, step, tta).unwrap();
            window.weighting = if params["gaussian"] == true {
                Weighting::Gaussian
            } else {
                Weighting::Uniform
            };
            (window.storage, window.batch) = (storage, batch);
            let image = image.index_axis(Axis(0), 0);
            let logits = window
                .predict(&[&net], image, &mut || true)
                .unwrap()
                .unwrap();
            if storage == Storage::F32 {
                let tolerance = &case["tolerance"]["logits_f32"];
                assert_close(name, logits.iter().copied(), &expected, tolerance);
                // The reference in half precision, where it has weights to speak of.
                let pairs = logits.iter().zip(&rounded).zip(weights.iter().cycle());
                for ((found, rounded), weight) in pairs {
                    assert!(*weight < 0.01 || (found - rounded).abs() < 0.02, "{name}");
                }
            } else {
                // No corner artefacts: shares of weights need no division by tiny sums.
                let tolerance = serde_json::json!({"abs": 0.01, "rel": 0.0});
                assert_close(name, logits.iter().copied(), &expected, &tolerance);
            }
        }
        // The summed weights: products of sums along the axes.
        let (z, y, x) = image.index_axis(Axis(0), 0).dim();
        let shape = [z, y, x];
        let before = padding(shape, tile);
        let sums: [Vec<f64>; 3] = std::array::from_fn(|a| {
            let weighting = if params["gaussian"] == true {
                Weighting::Gaussian
            } else {
                Weighting::Uniform
            };
            let mut sums = vec![0.0; shape[a].max(tile[a])];
            for start in tile_starts(shape[a].max(tile[a]), tile[a], step) {
                let profile = weighting.profile(tile[a]);
                sums[start..]
                    .iter_mut()
                    .zip(profile)
                    .for_each(|(s, w)| *s += w);
            }
            sums.split_off(before[a])
        });
        let scale = if params["gaussian"] == true {
            10.0
        } else {
            1.0
        };
        let found = Array3::from_shape_fn(shape, |(z, y, x)| {
            (scale * sums[0][z] * sums[1][y] * sums[2][x]) as f32
        });
        assert_close(
            name,
            found.iter().copied(),
            &weights,
            &case["tolerance"]["weight"],
        );
    }
}

#[test]
fn export_to_the_grid_of_the_file() {
    let (cases, tensors, _) = group("inference");
    for case in of(&cases, "export_logits") {
        let (name, params) = (case["name"].as_str().unwrap(), &case["params"]);
        // Logits are in the transposed order: the image is put into it as well.
        let order: [usize; 3] = from_value(params["transpose_forward"].clone()).unwrap();
        let spacing: [f64; 3] = from_value(params["image_spacing"].clone()).unwrap();
        let spacing = Spacing::try_from(order.map(|a| spacing[a])).unwrap();
        let before: [usize; 3] = from_value(params["shape_before_cropping"].clone()).unwrap();
        let bounds: [[usize; 2]; 3] = from_value(params["bbox"].clone()).unwrap();
        let logits = array4(&tensors, &case["inputs"]["logits"]);
        let (_, z, y, x) = logits.dim();
        let geometry = serde_json::json!({
            "shape": before,
            "affine": Affine::from_spacing(spacing),
        });
        let restore: Restore = from_value(serde_json::json!({
            "source": geometry,
            "canonical": geometry,
            "region": {"start": bounds.map(|b| b[0]), "end": bounds.map(|b| b[1])},
            "plan_spacing": params["config_spacing"],
            "plan_shape": [z, y, x],
        }))
        .unwrap();
        let labels = labels_on_source_grid(&logits, &restore).unwrap();
        let expected = array3(&tensors, &case["outputs"]["segmentation"]);
        let expected = expected.permuted_axes(order);
        assert_eq!(labels.data().dim(), expected.dim(), "{name}");
        let pairs = labels.data().into_iter().zip(&expected);
        let wrong = pairs.filter(|&(&a, &b)| a != b as u8).count();
        assert!(wrong <= 3, "{name}: {wrong} labels differ");
        if let Some(reference) = case["outputs"].get("probabilities") {
            let maps = probabilities_on_source_grid(&logits, &restore).unwrap();
            let expected = array4(&tensors, reference);
            for (map, expected) in maps.iter().zip(expected.outer_iter()) {
                let expected = expected.permuted_axes(order);
                for (a, b) in map.data().into_iter().zip(&expected) {
                    assert!((a - b).abs() < 2e-5, "{name}: {a} is not {b}");
                }
            }
        }
        // Slices that come one by one give the same.
        let layout = super::export::Layout {
            classes: 3,
            margin: false,
            disagreement: false,
        };
        let mut exporter = super::export::Exporter::new(&restore, None, layout, Outputs::default());
        for first in 0..z {
            exporter.take(
                first,
                logits.slice(ndarray::s![.., first..first + 1, .., ..]),
            );
        }
        let maps = exporter.finish();
        assert_eq!(
            restore.restore_whole(maps.labels).unwrap(),
            labels,
            "{name}"
        );
    }
}

/// `summary.json`, whose undefined numbers are NaN there and null here.
#[test]
fn summaries_of_folders() {
    let (cases, _, folder) = group("evaluation");
    let case = of(&cases, "evaluate_folder")[0];
    let of_params = |key: &str| folder.join(case["params"][key].as_str().unwrap());
    let report = evaluate(
        &Evaluation {
            predictions: of_params("prediction"),
            references: of_params("reference"),
            cases: None,
            labels: from_value(case["params"]["labels"].clone()).unwrap(),
            settings: Settings {
                empty: EmptyPolicy::Exclude,
                ..Settings::default()
            },
        },
        &|_, _| {},
    )
    .unwrap();
    let found = report.to_summary_json();
    let expected = &case["outputs"]["summary"];
    assert_numbers_agree(
        "foreground",
        &found["foreground_mean"],
        &expected["foreground_mean"],
    );
    assert_numbers_agree("mean", &found["mean"], &expected["mean"]);
    let rows = expected["metric_per_case"].as_array().unwrap();
    assert_eq!(
        found["metric_per_case"].as_array().unwrap().len(),
        rows.len()
    );
    for (index, row) in rows.iter().enumerate() {
        let found = &found["metric_per_case"][index];
        assert_numbers_agree(&format!("case {index}"), &found["metrics"], &row["metrics"]);
        for file in ["prediction_file", "reference_file"] {
            let (found, name) = (found[file].as_str().unwrap(), row[file].as_str().unwrap());
            assert!(found.ends_with(name), "{found} is not {name}");
        }
    }
}

/// Every number of `expected`, in objects of objects, lies at its place in `found`.
fn assert_numbers_agree(place: &str, found: &Value, expected: &Value) {
    if let Some(fields) = expected.as_object() {
        assert!(!fields.is_empty(), "{place}");
        for (name, expected) in fields {
            assert_numbers_agree(&format!("{place} {name}"), &found[name], expected);
        }
    } else if let Some(expected) = expected.as_f64() {
        let found = found.as_f64().unwrap_or(f64::NAN);
        assert!(
            (found - expected).abs() < 1e-12,
            "{place}: {found}, not {expected}"
        );
    } else {
        assert_eq!(expected, "nan", "{place}");
        assert!(found.is_null(), "{place}: {found}");
    }
}

#[test]
fn post_processing() {
    let (cases, tensors, folder) = group("evaluation");
    let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
    for case in of(&cases, "keep_largest_component") {
        let seg = array3(&tensors, &case["inputs"]["seg"]).mapv(|v| v as u8);
        let labels: Vec<u8> = from_value(case["params"]["labels"].clone()).unwrap();
        let mut mask = Volume::new(seg, affine).unwrap();
        Step::KeepLargest { labels }.apply(&mut mask);
        let expected = array3(&tensors, &case["outputs"]["result"]).mapv(|v| v as u8);
        assert_eq!(mask.data(), expected.view(), "{}", case["name"]);
    }
    for case in of(&cases, "determine_postprocessing") {
        let params = &case["params"];
        let files = |key: &str| {
            let folder = folder.join(params[key].as_str().unwrap());
            find_images(&folder, None).unwrap().images
        };
        let read = |file: &ImageFile| read_labels(&file.image).unwrap().volume;
        let masks: Vec<_> = files("prediction")
            .iter()
            .zip(&files("reference"))
            .map(|(p, r)| (read(p), read(r)))
            .collect();
        let labels: Vec<u8> = from_value(params["foreground_labels"].clone()).unwrap();
        let decision = determine_largest_component(&masks, &labels).unwrap();
        let expected: Vec<Step> = case["outputs"]["kwargs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kwargs| Step::KeepLargest {
                labels: from_value(kwargs["labels_or_regions"].clone()).unwrap(),
            })
            .collect();
        assert_eq!(decision.postprocessing.steps, expected);
        let before = &decision.trials[0].before;
        let accepted = decision
            .trials
            .iter()
            .rfind(|trial| trial.accepted)
            .unwrap();
        for (key, dice) in [("dice_before", before), ("dice_after", &accepted.after)] {
            for (label, found) in dice {
                let expected = case["outputs"][key][label.to_string()].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-9, "{key} of {label}");
            }
        }
    }
    let case = of(&cases, "read_image")[0];
    let image = read_image(folder.join(case["params"]["file"].as_str().unwrap()))
        .unwrap()
        .volume;
    let expected = values(&tensors, &case["outputs"]["data"]);
    assert!(image.data().iter().eq(&expected));
    let spacing: [f64; 3] = from_value(case["outputs"]["spacing"].clone()).unwrap();
    for (found, expected) in image.spacing().zyx().iter().zip(spacing) {
        assert!((found - expected).abs() < 1e-6);
    }
}
