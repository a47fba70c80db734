//! Parity with the reference implementation of nnU-Net's augmentation (batchgeneratorsv2 0.3.6),
//! on recorded inputs, parameters and outputs. Elastic cases are left out: there is no elastic
//! transform, as nnU-Net has it off.

use std::path::PathBuf;

use ndarray::{Array3, Array4, ArrayD, Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::spatial::{self, SpatialParams};
use crate::{AugmentConfig, Interval, OnChannel, Params, Sample, intensity};

/// One group of recorded cases.
struct Group {
    cases: Vec<Value>,
    tensors: Vec<u8>,
}

impl Group {
    /// `None`, with a note, where the recordings are not at hand.
    fn open(name: &str) -> Option<Self> {
        let Some(data) = std::env::var_os("LISEG_DATA") else {
            println!("skipped: LISEG_DATA is not set");
            return None;
        };
        let folder = PathBuf::from(data).join("../reference/golden/nnunet");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let Value::Object(mut root) = serde_json::from_str(&text).unwrap() else {
            panic!()
        };
        let Some(Value::Array(cases)) = root.remove("cases") else {
            panic!()
        };
        let tensors = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        Some(Self { cases, tensors })
    }

    fn of(&self, operation: &str) -> Vec<&Value> {
        let cases: Vec<_> = self
            .cases
            .iter()
            .filter(|case| case["op"] == operation)
            .collect();
        assert!(!cases.is_empty(), "no case of {operation}");
        cases
    }

    fn shape_and<T>(&self, key: &Value, dtype: Dtype, read: impl Fn(&[u8]) -> T) -> ArrayD<T> {
        let key = key.as_str().unwrap().strip_prefix("t:").unwrap();
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file.tensor(key).unwrap();
        assert_eq!(view.dtype(), dtype, "{key}");
        let values = view
            .data()
            .chunks_exact(dtype.bitsize() / 8)
            .map(read)
            .collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
    }

    fn floats(&self, key: &Value) -> ArrayD<f32> {
        self.shape_and(key, Dtype::F32, |bytes| {
            f32::from_le_bytes(bytes.try_into().unwrap())
        })
    }

    fn labels(&self, key: &Value) -> ArrayD<i8> {
        let read = |bytes: &[u8]| i16::from_le_bytes(bytes.try_into().unwrap()) as i8;
        self.shape_and(key, Dtype::I16, read)
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    let list: Vec<f64> = value.as_array().unwrap().iter().map(number).collect();
    list.try_into().unwrap()
}

fn sizes<const N: usize>(value: &Value) -> [usize; N] {
    numbers::<N>(value).map(|size| size as usize)
}

fn close(found: &ArrayD<f32>, expected: &ArrayD<f32>, tolerance: &Value, name: &str) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let (absolute, relative) = match tolerance["match"].as_str().unwrap() {
        "exact" => (0.0, 0.0),
        _ => (
            number(&tolerance["abs"]) as f32,
            number(&tolerance["rel"]) as f32,
        ),
    };
    for (index, expected) in expected.indexed_iter() {
        let found = found[&index];
        let bound = absolute + relative * expected.abs();
        assert!(
            (found - expected).abs() <= bound,
            "{name} at {index:?}: {found}, expected {expected} within {bound}"
        );
    }
}

/// Runs `params` on the case's image and compares with its result.
fn check_image(group: &Group, case: &Value, params: &Params) {
    let name = case["name"].as_str().unwrap();
    let image: Array4<f32> = group
        .floats(&case["inputs"]["image"])
        .into_dimensionality()
        .unwrap();
    let (_, z, y, x) = image.dim();
    let label = Array3::from_shape_fn((z, y, x), |(z, y, x)| ((z + y + x) % 3) as i8 - 1);
    let result = params
        .apply(Sample {
            image,
            label: label.clone(),
        })
        .unwrap();
    let expected = group.floats(&case["outputs"]["result"]);
    close(
        &result.image.into_dyn(),
        &expected,
        &case["tolerance"]["result"],
        name,
    );
    if !matches!(params, Params::Mirror { .. }) {
        assert_eq!(result.label, label, "{name} touched the label");
    }
}

fn all_channels<T: Copy>(case: &Value, group: &Group, value: T) -> Vec<OnChannel<T>> {
    let channels = group.floats(&case["inputs"]["image"]).shape()[0];
    (0..channels)
        .map(|channel| OnChannel { channel, value })
        .collect()
}

fn per_channel<T>(list: &Value, read: impl Fn(&Value) -> T) -> Vec<OnChannel<T>> {
    let list = list.as_array().unwrap().iter().enumerate();
    list.map(|(channel, value)| OnChannel {
        channel,
        value: read(value),
    })
    .collect()
}

#[test]
fn gamma_agrees_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("gamma") {
        // Without its statistics gamma is not offered.
        if case["params"]["retain_stats"] == true {
            let exponents = all_channels(case, &group, number(&case["params"]["gamma"]));
            let inverted = case["params"]["invert"].as_bool().unwrap();
            check_image(
                &group,
                case,
                &Params::Gamma {
                    exponents,
                    inverted,
                },
            );
        }
    }
}

#[test]
fn contrast_and_brightness_agree_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("contrast") {
        // Contrast without keeping the range is not offered.
        if case["params"]["preserve_range"] == true {
            let factors = all_channels(case, &group, number(&case["params"]["factor"]));
            check_image(&group, case, &Params::Contrast { factors });
        }
    }
    for case in group.of("brightness_multiplicative") {
        let factors = per_channel(&case["params"]["factors"], number);
        check_image(&group, case, &Params::Brightness { factors });
    }
}

#[test]
fn blur_agrees_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("gaussian_kernel_1d") {
        let kernel = intensity::blur::kernel(number(&case["params"]["sigma"]));
        let expected = &case["outputs"]["kernel"];
        let expected = if expected.is_string() {
            group.floats(expected)
        } else {
            let list: Vec<f32> = expected
                .as_array()
                .unwrap()
                .iter()
                .map(|v| number(v) as f32)
                .collect();
            ArrayD::from_shape_vec(IxDyn(&[list.len()]), list).unwrap()
        };
        let found = ArrayD::from_shape_vec(IxDyn(&[kernel.len()]), kernel).unwrap();
        close(&found, &expected, &case["tolerance"]["kernel"], "kernel");
    }
    for case in group.of("gaussian_blur") {
        let sigmas = per_channel(&case["params"]["sigmas_per_channel_and_axis"], numbers);
        check_image(&group, case, &Params::GaussianBlur { sigmas });
    }
}

#[test]
fn low_resolution_agrees_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("simulate_low_resolution") {
        let factors = per_channel(&case["params"]["scales"], numbers);
        check_image(&group, case, &Params::LowResolution { factors });
    }
}

#[test]
fn mirror_agrees_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("mirror") {
        let listed = case["params"]["axes"].as_array().unwrap();
        let axes = [0, 1, 2].map(|axis: u64| listed.iter().any(|a| a.as_u64() == Some(axis)));
        check_image(&group, case, &Params::Mirror { axes });
    }
}

#[test]
fn outside_is_masked_and_removed_as_in_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    let label = |key: &Value| -> Array3<i8> {
        group
            .labels(key)
            .index_axis_move(Axis(0), 0)
            .into_dimensionality()
            .unwrap()
    };
    for case in group.of("mask_outside") {
        let image = group
            .floats(&case["inputs"]["image"])
            .into_dimensionality()
            .unwrap();
        let mut sample = Sample {
            image,
            label: label(&case["inputs"]["seg"]),
        };
        let [channel] = sizes(&case["params"]["channels"]);
        sample.mask_outside(&[channel]);
        let expected = group.floats(&case["outputs"]["result"]);
        close(
            &sample.image.into_dyn(),
            &expected,
            &case["tolerance"]["result"],
            "mask_outside",
        );
    }
    for case in group.of("remove_label") {
        let label_in = label(&case["inputs"]["seg"]);
        let (z, y, x) = label_in.dim();
        let mut sample = Sample {
            image: Array4::zeros((1, z, y, x)),
            label: label_in,
        };
        sample.outside_to_background();
        assert_eq!(sample.label, label(&case["outputs"]["result"]));
    }
}

#[test]
fn affine_matrices_agree_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("affine_matrix") {
        let plane = case["params"]["dim"] == 2;
        for row in case["outputs"]["table"].as_array().unwrap() {
            let found = if plane {
                let [y, x] = numbers(&row["scales"]);
                spatial::affine::matrix([number(&row["angle"]), 0.0, 0.0], [1.0, y, x])
            } else {
                spatial::affine::matrix(numbers(&row["angles"]), numbers(&row["scales"]))
            };
            let from = usize::from(plane);
            for (i, expected) in row["matrix"].as_array().unwrap().iter().enumerate() {
                for (j, expected) in expected.as_array().unwrap().iter().enumerate() {
                    let found = found[i + from][j + from];
                    assert!((found - number(expected)).abs() <= 1e-12, "{row}");
                }
            }
        }
    }
}

#[test]
fn spatial_transforms_agree_with_the_reference() {
    let Some(group) = Group::open("augment_v2") else {
        return;
    };
    for case in group.of("spatial_transform") {
        let name = case["name"].as_str().unwrap();
        if case["inputs"].get("offsets").is_some() {
            continue;
        }
        let mut image = group.floats(&case["inputs"]["image"]);
        let mut label = group.labels(&case["inputs"]["seg"]);
        let params = &case["params"];
        // Flat patches are recorded as slices in the place of channels.
        let flat = image.ndim() == 3;
        let spatial = if flat {
            let slices = label.shape()[0];
            let [y, x] = [image.shape()[1], image.shape()[2]];
            let channels = image.shape()[0] / slices;
            image = image
                .into_shape_with_order(IxDyn(&[channels, slices, y, x]))
                .unwrap();
            label.insert_axis_inplace(Axis(0));
            let [patch_y, patch_x] = sizes(&params["patch_size"]);
            let [_, angle] = numbers(&params["angles"]);
            let [scale_y, scale_x] = numbers(&params["scales"]);
            SpatialParams {
                final_shape: [slices, patch_y, patch_x],
                angles_rad: [angle, 0.0, 0.0],
                scale: [1.0, scale_y, scale_x],
            }
        } else {
            let mut spatial = SpatialParams::crop(sizes(&params["patch_size"]));
            if !params["angles"].is_null() {
                spatial.angles_rad = numbers(&params["angles"]);
                spatial.scale = numbers(&params["scales"]);
            }
            spatial
        };
        let sample = Sample {
            image: image.into_dimensionality().unwrap(),
            label: label
                .index_axis_move(Axis(0), 0)
                .into_dimensionality()
                .unwrap(),
        };
        let result = Params::Spatial(spatial).apply(sample).unwrap();

        let mut expected = group.floats(&case["outputs"]["image"]);
        if flat {
            expected = expected
                .into_shape_with_order(result.image.shape())
                .unwrap();
        }
        close(
            &result.image.into_dyn(),
            &expected,
            &case["tolerance"]["image"],
            name,
        );
        let expected = group.labels(&case["outputs"]["seg"]);
        assert_eq!(expected.len(), result.label.len(), "{name}");
        let differing = expected
            .iter()
            .zip(&result.label)
            .filter(|(a, b)| a != b)
            .count();
        println!("{name}: {differing} of {} labels differ", expected.len());
        let allowed = case["tolerance"]["seg"]["max_mismatch"].as_u64().unwrap() as usize;
        assert!(
            differing <= allowed,
            "{name}: {differing} labels differ, {allowed} may"
        );
    }
}

#[test]
fn initial_shapes_agree_with_the_reference() {
    let Some(group) = Group::open("sampling") else {
        return;
    };
    for case in group.of("initial_patch_size") {
        for row in case["outputs"]["table"].as_array().unwrap() {
            let limit = number(&row["rotation"]).to_degrees();
            let config = AugmentConfig {
                rotation_degrees: Interval::new(-limit, limit),
                rotation_degrees_in_plane: Interval::new(-limit, limit),
                ..AugmentConfig::default()
            };
            let found = config
                .build()
                .unwrap()
                .initial_shape(sizes(&row["patch_size"]));
            assert_eq!(found, sizes(&row["initial_patch_size"]), "{row}");
        }
    }
}
