//! Parity with the reference implementation of nnU-Net's augmentation (batchgeneratorsv2 0.3.6),
//! and of v1's (batchgenerators 0.25), on recorded inputs, parameters and outputs.

use std::path::Path;

use ndarray::{Array3, Array4, ArrayD, Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::intensity::BlurRule;
use crate::spatial::warp::{Grid, coordinates, warp};
use crate::spatial::{Generation, ReadBack, SpatialParams, elastic, field::Field};
use crate::{AugmentConfig, Interval, OnChannel, Params, Sample, Scratch, intensity};

/// One group of recorded cases.
struct Group {
    cases: Vec<Value>,
    tensors: Vec<u8>,
}

impl Group {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nnunet");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let Value::Object(mut root) = serde_json::from_str(&text).unwrap() else {
            panic!()
        };
        let Some(Value::Array(cases)) = root.remove("cases") else {
            panic!()
        };
        let tensors = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        Self { cases, tensors }
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

    fn doubles(&self, key: &Value) -> ArrayD<f64> {
        self.shape_and(key, Dtype::F64, |bytes| {
            f64::from_le_bytes(bytes.try_into().unwrap())
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
    let result = params.apply(Sample::new(image, label.clone())).unwrap();
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

fn check_gamma(group: &Group, case: &Value) {
    let params = Params::Gamma {
        exponents: all_channels(case, group, number(&case["params"]["gamma"])),
        inverted: case["params"]["invert"].as_bool().unwrap(),
        keep_statistics: case["params"]["retain_stats"].as_bool().unwrap(),
    };
    check_image(group, case, &params);
}

fn check_contrast(group: &Group, case: &Value) {
    let params = Params::Contrast {
        factors: all_channels(case, group, number(&case["params"]["factor"])),
        keep_range: case["params"]["preserve_range"].as_bool().unwrap(),
    };
    check_image(group, case, &params);
}

#[test]
fn gamma_agrees_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("gamma") {
        check_gamma(&group, case);
    }
}

#[test]
fn contrast_and_brightness_agree_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("contrast") {
        check_contrast(&group, case);
    }
    for case in group.of("brightness_multiplicative") {
        let factors = per_channel(&case["params"]["factors"], number);
        let from_minimum = false;
        check_image(
            &group,
            case,
            &Params::Brightness {
                factors,
                from_minimum,
            },
        );
    }
}

#[test]
fn blur_agrees_with_the_reference() {
    let group = Group::open("augment_v2");
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
        let rule = BlurRule::SixSigma;
        check_image(&group, case, &Params::GaussianBlur { sigmas, rule });
    }
}

#[test]
fn low_resolution_agrees_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("simulate_low_resolution") {
        let factors = per_channel(&case["params"]["scales"], numbers);
        let read_back = ReadBack::Linear;
        check_image(&group, case, &Params::LowResolution { factors, read_back });
    }
}

#[test]
fn mirror_agrees_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("mirror") {
        let listed = case["params"]["axes"].as_array().unwrap();
        let axes = [0, 1, 2].map(|axis: u64| listed.iter().any(|a| a.as_u64() == Some(axis)));
        check_image(&group, case, &Params::Mirror { axes });
    }
}

#[test]
fn outside_is_masked_and_removed_as_in_the_reference() {
    let group = Group::open("augment_v2");
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
        let sample = Sample::new(image, label(&case["inputs"]["seg"]));
        let [channel] = sizes(&case["params"]["channels"]);
        let channels = vec![channel];
        let sample = Params::MaskOutside { channels }.apply(sample).unwrap();
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
        let mut sample = Sample::new(Array4::zeros((1, z, y, x)), label_in);
        sample.outside_to_background();
        assert_eq!(sample.label, label(&case["outputs"]["result"]));
    }
}

#[test]
fn affine_matrices_agree_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("affine_matrix") {
        let plane = case["params"]["dim"] == 2;
        for row in case["outputs"]["table"].as_array().unwrap() {
            let found = if plane {
                let [y, x] = numbers(&row["scales"]);
                Generation::V2.matrix([number(&row["angle"]), 0.0, 0.0], [1.0, y, x])
            } else {
                Generation::V2.matrix(numbers(&row["angles"]), numbers(&row["scales"]))
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
    let group = Group::open("augment_v2");
    for case in group.of("spatial_transform") {
        let name = case["name"].as_str().unwrap();
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
                angles_rad: [angle, 0.0, 0.0],
                scale: [1.0, scale_y, scale_x],
                ..SpatialParams::crop([slices, patch_y, patch_x])
            }
        } else {
            let mut spatial = SpatialParams::crop(sizes(&params["patch_size"]));
            if !params["angles"].is_null() {
                spatial.angles_rad = numbers(&params["angles"]);
                spatial.scale = numbers(&params["scales"]);
            }
            spatial
        };
        let label = label.index_axis_move(Axis(0), 0);
        let sample = Sample::new(
            image.into_dimensionality().unwrap(),
            label.into_dimensionality().unwrap(),
        );
        let result = match case["inputs"].get("offsets") {
            None => Params::Spatial(spatial).apply(sample).unwrap(),
            // Recorded displacements take the place of drawn ones.
            Some(offsets) => {
                let offsets = group.floats(offsets);
                let axis = |k| offsets.index_axis(Axis(0), k).iter().copied().collect();
                let field = Field::Dense([axis(0), axis(1), axis(2)]);
                let grid = grid(&spatial, &sample);
                let scratch = &mut Scratch::new();
                warp(&sample, &grid, Some(&field), Generation::V2, scratch)
            }
        };

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

fn grid(params: &SpatialParams, sample: &Sample) -> Grid {
    Grid {
        input: sample.shape(),
        output: params.final_shape,
        matrix: params.generation.matrix(params.angles_rad, params.scale),
        shift: params.shift,
    }
}

#[test]
fn elastic_fields_agree_with_the_reference() {
    let group = Group::open("augment_v2");
    for case in group.of("elastic_field") {
        let mut noise = group.floats(&case["inputs"]["noise"]);
        let shape = noise.shape().to_vec().try_into().unwrap();
        let (sigma, largest) = (
            number(&case["params"]["sigma"]),
            number(&case["params"]["magnitude"]),
        );
        let values = noise.as_slice_mut().unwrap();
        elastic::smooth_periodic(values, shape, sigma, largest, &mut Scratch::new());
        let expected = group.floats(&case["outputs"]["field"]);
        close(&noise, &expected, &case["tolerance"]["field"], "field");
    }
}

#[test]
fn v1_intensity_transforms_agree_with_the_reference() {
    let group = Group::open("augment_v1");
    for case in group.of("gamma_v1") {
        check_gamma(&group, case);
    }
    for case in group.of("contrast") {
        check_contrast(&group, case);
    }
    for case in group.of("gaussian_blur_v1") {
        let sigma = number(&case["params"]["sigma"]);
        let sigmas = all_channels(case, &group, [sigma; 3]);
        let rule = BlurRule::Scipy;
        check_image(&group, case, &Params::GaussianBlur { sigmas, rule });
    }
    for case in group.of("simulate_low_resolution_v1") {
        let mut factor = [number(&case["params"]["zoom"]); 3];
        for axis in case["params"]["ignore_axes"]
            .as_array()
            .into_iter()
            .flatten()
        {
            factor[axis.as_u64().unwrap() as usize] = 1.0;
        }
        let factors = all_channels(case, &group, factor);
        let read_back = ReadBack::Cubic;
        check_image(&group, case, &Params::LowResolution { factors, read_back });
    }
}

#[test]
fn v1_spatial_transforms_agree_with_the_reference() {
    let group = Group::open("augment_v1");
    for case in group.of("spatial_transform_v1") {
        let name = case["name"].as_str().unwrap();
        let params = &case["params"];
        let mut image = group.floats(&case["inputs"]["image"]);
        let mut label = group.labels(&case["inputs"]["seg"]);
        let mut patch: Vec<usize> = serde_json::from_value(params["patch_size"].clone()).unwrap();
        // A slice is a volume of one.
        if image.ndim() == 2 {
            image.insert_axis_inplace(Axis(0));
            label.insert_axis_inplace(Axis(0));
            patch.insert(0, 1);
        }
        let final_shape = [patch[0], patch[1], patch[2]];
        let mut spatial = SpatialParams {
            generation: Generation::V1,
            ..SpatialParams::crop(final_shape)
        };
        if !params["angles"].is_null() {
            spatial.angles_rad = numbers(&params["angles"]);
        }
        if let Some(factor) = params["scale"].as_f64() {
            let across = if patch[0] == 1 { 1.0 } else { factor };
            spatial.scale = [across, factor, factor];
        }
        let sample = Sample::new(
            image.insert_axis(Axis(0)).into_dimensionality().unwrap(),
            label.into_dimensionality().unwrap(),
        );
        let scratch = &mut Scratch::new();
        let field = case["inputs"].get("noise").map(|noise| {
            let noise = group.doubles(noise);
            let (sigma, alpha) = (number(&params["sigma"]), number(&params["alpha"]));
            Field::Dense([0, 1, 2].map(|k| {
                let noise = noise.index_axis(Axis(0), k);
                let mut values: Vec<f32> = noise.iter().map(|&v| v as f32).collect();
                elastic::smooth_zero_border(&mut values, final_shape, sigma, alpha, scratch);
                values
            }))
        });
        let grid = grid(&spatial, &sample);
        let points = coordinates(&grid, field.as_ref());
        let expected = group.floats(&case["outputs"]["coords"]);
        let axes = expected.shape()[0];
        for (axis, expected) in expected.outer_iter().enumerate() {
            for (point, expected) in points.iter().zip(expected) {
                let found = point[axis + 3 - axes] as f32;
                assert!(
                    (found - expected).abs() < 2e-5,
                    "{name}: {found}, not {expected}"
                );
            }
        }
        let result = match &field {
            None => Params::Spatial(spatial).apply(sample.clone()).unwrap(),
            Some(_) => warp(&sample, &grid, field.as_ref(), Generation::V1, scratch),
        };
        let expected = group.floats(&case["outputs"]["image"]);
        let found = result
            .image
            .into_shape_with_order(expected.shape())
            .unwrap();
        close(
            &found.into_dyn(),
            &expected,
            &case["tolerance"]["image"],
            name,
        );
        let expected = group.labels(&case["outputs"]["seg_argmax_nearest"]);
        let differing = expected
            .iter()
            .zip(&result.label)
            .filter(|(a, b)| a != b)
            .count();
        let allowed = &case["tolerance"]["seg_argmax_nearest"]["max_mismatch"];
        println!("{name}: {differing} of {} labels differ", expected.len());
        assert!(
            differing as u64 <= allowed.as_u64().unwrap(),
            "{name}: {differing} labels differ"
        );
    }
}

#[test]
fn initial_shapes_agree_with_the_reference() {
    let group = Group::open("sampling");
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
