//! Resampling, normalisation and cropping against nnU-Net's numbers.
//!
//! Of the stored cases only `nonorm` is left out, where nnU-Net does nothing.

use super::reference::{fixtures, json};
use liseg_mri::crop::nonzero_region;
use liseg_mri::normalize::{Statistics, clip_and_scale, min_max, z_score, z_score_masked};
use liseg_mri::resample::{
    Interpolation, Resampling, SeparateZ, resample_array, resample_labels_array, resampled_shape,
    separate_axis,
};
use liseg_volume::{Region, Spacing};
use ndarray::{Array3, Array4, ArrayD, ArrayView3, Axis, Dimension, s};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeSet;

/// A group of reference cases with its tensors.
struct Group {
    cases: Vec<Value>,
    bytes: Vec<u8>,
}

impl Group {
    fn read(name: &str) -> Self {
        let folder = fixtures("nnunet");
        let cases = json(&folder.join(format!("{name}.json")))["cases"]
            .as_array()
            .unwrap()
            .clone();
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        Self { cases, bytes }
    }

    /// The cases whose name starts with `prefix`.
    fn cases(&self, prefix: &str) -> Vec<&Value> {
        let name = |c: &Value| c["name"].as_str().unwrap().starts_with(prefix);
        let found: Vec<_> = self.cases.iter().filter(|c| name(c)).collect();
        assert!(!found.is_empty(), "no case starts with {prefix}");
        found
    }

    fn tensor<T>(&self, reference: &Value, dtype: Dtype, parse: impl Fn(&[u8]) -> T) -> ArrayD<T> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let name = reference.as_str().unwrap().strip_prefix("t:").unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{name}");
        let values = tensor
            .data()
            .chunks_exact(dtype.bitsize() / 8)
            .map(parse)
            .collect();
        ArrayD::from_shape_vec(tensor.shape(), values).unwrap()
    }

    fn f32(&self, reference: &Value) -> ArrayD<f32> {
        self.tensor(reference, Dtype::F32, |b| {
            f32::from_le_bytes(b.try_into().unwrap())
        })
    }

    /// An f16 tensor, widened: those stored hold no subnormal numbers.
    fn f16(&self, reference: &Value) -> ArrayD<f32> {
        self.tensor(reference, Dtype::F16, |b| {
            let bits = u32::from(u16::from_le_bytes(b.try_into().unwrap()));
            let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 1023);
            if exponent == 0 {
                return 0.0;
            }
            f32::from_bits(sign << 31 | (exponent + 112) << 23 | fraction << 13)
        })
    }

    fn i16(&self, reference: &Value) -> ArrayD<i16> {
        self.tensor(reference, Dtype::I16, |b| {
            i16::from_le_bytes(b.try_into().unwrap())
        })
    }
}

fn triple(value: &Value) -> [f64; 3] {
    std::array::from_fn(|i| value[i].as_f64().unwrap())
}

fn spacing(value: &Value) -> Spacing {
    let [z, y, x] = triple(value);
    Spacing::new(z, y, x).unwrap()
}

fn shape(value: &Value) -> [usize; 3] {
    triple(value).map(|v| v as usize)
}

fn interpolation(order: &Value) -> Interpolation {
    match order.as_u64().unwrap() {
        0 => Interpolation::Nearest,
        1 => Interpolation::Linear,
        3 => Interpolation::Cubic,
        other => panic!("order {other}"),
    }
}

fn separate_z(force: &Value) -> SeparateZ {
    match force.as_bool() {
        None => SeparateZ::Auto,
        Some(true) => SeparateZ::Always,
        Some(false) => SeparateZ::Never,
    }
}

/// Fails with the worst voxel when two arrays differ by more than `absolute + relative · expected`.
fn assert_close(name: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>, tolerance: &Value) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let (absolute, relative) = (
        tolerance["abs"].as_f64().unwrap(),
        tolerance["rel"].as_f64().unwrap(),
    );
    let mut worst = (0.0, Vec::new(), 0.0, 0.0);
    for ((index, &a), &b) in found.indexed_iter().zip(expected) {
        let excess = f64::from((a - b).abs()) / (absolute + relative * f64::from(b.abs()));
        if excess > worst.0 || excess.is_nan() {
            worst = (excess, index.slice().to_vec(), a, b);
        }
    }
    let (excess, index, a, b) = worst;
    assert!(
        excess <= 1.0,
        "{name}: at {index:?} {a}, expected {b}: {excess} times the tolerance"
    );
}

fn assert_labels(name: &str, found: &ArrayD<i16>, expected: &ArrayD<i16>, tolerance: &Value) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count() as u64;
    let allowed = tolerance["max_mismatch"].as_u64().unwrap();
    eprintln!("{name}: {differing} voxels differ, {allowed} allowed");
    assert!(
        differing <= allowed,
        "{name}: {differing} voxels differ, {allowed} allowed"
    );
}

/// Applies a function to every channel of `[c, z, y, x]`.
fn per_channel<A: Clone, B: Clone>(
    data: &ArrayD<A>,
    f: impl Fn(ArrayView3<'_, A>) -> Array3<B>,
) -> ArrayD<B> {
    let data = data.view().into_dimensionality::<ndarray::Ix4>().unwrap();
    let channels: Vec<_> = data.outer_iter().map(f).collect();
    let views: Vec<_> = channels.iter().map(|c| c.view()).collect();
    ndarray::stack(Axis(0), &views).unwrap().into_dyn()
}

#[test]
fn shapes_round_half_to_even() {
    let group = Group::read("resampling");
    for row in group.cases("new_shape")[0]["outputs"]["table"]
        .as_array()
        .unwrap()
    {
        let (from, to) = (spacing(&row["old_spacing"]), spacing(&row["new_spacing"]));
        assert_eq!(
            resampled_shape(shape(&row["shape"]), from, to),
            shape(&row["new_shape"])
        );
    }
}

#[test]
fn thick_axes_are_separated_as_in_nnunet() {
    let group = Group::read("resampling");
    for row in group.cases("separate_z_rule")[0]["outputs"]["table"]
        .as_array()
        .unwrap()
    {
        let rule = separate_z(&row["force_separate_z"]);
        let found = separate_axis(spacing(&row["current"]), spacing(&row["new"]), rule);
        assert_eq!(found, row["axis"].as_u64().map(|a| a as usize), "{row}");
    }
}

#[test]
fn images_and_logits_are_resampled_as_in_nnunet() {
    let group = Group::read("resampling");
    let cases = [group.cases("data_"), group.cases("prob_")].concat();
    assert_eq!(cases.len(), 16);
    for case in cases {
        let p = &case["params"];
        let name = case["name"].as_str().unwrap();
        let read = |reference| match name.ends_with("f16") {
            true => group.f16(reference),
            false => group.f32(reference),
        };
        let how = Resampling {
            interpolation: interpolation(&p["order"]),
            along_z: interpolation(&p["order_z"]),
            separate_z: separate_z(&p["force_separate_z"]),
        };
        let found = per_channel(&read(&case["inputs"]["data"]), |channel| {
            let (from, to) = (spacing(&p["current_spacing"]), spacing(&p["new_spacing"]));
            resample_array(channel, shape(&p["new_shape"]), from, to, how)
        });
        let expected = read(&case["outputs"]["result"]);
        assert_close(name, &found, &expected, &case["tolerance"]["result"]);
    }
}

/// nnU-Net's other resampling, by torch: linear in place of cubic.
#[test]
fn linear_resampling_is_that_of_nnunets_torch_functions() {
    let group = Group::read("resampling");
    let cases = group.cases("torch_");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let p = &case["params"];
        let (from, to) = (spacing(&p["current_spacing"]), spacing(&p["new_spacing"]));
        let (new, rule) = (shape(&p["new_shape"]), separate_z(&p["force_separate_z"]));
        let (input, tolerance) = (&case["inputs"]["data"], &case["tolerance"]["result"]);
        let expected = &case["outputs"]["result"];
        let how = Resampling {
            interpolation: Interpolation::Linear,
            along_z: Interpolation::Nearest,
            separate_z: rule,
        };
        if p["is_seg"].as_bool().unwrap() {
            // Labels one by one. The largest share wins, of equal ones the smaller label; in the
            // variant that saves memory, the last label with more than half.
            let saving = p["memefficient_seg_resampling"].as_bool() == Some(true);
            let found = per_channel(&group.i16(input), |channel| {
                let labels: BTreeSet<i16> = channel.iter().copied().collect();
                let mut best = Array3::from_elem(new, (0.0, 0));
                for label in labels {
                    let mask = channel.mapv(|l| f32::from(u8::from(l == label)));
                    let share = resample_array(mask.view(), new, from, to, how);
                    best.zip_mut_with(&share, |best, &share| {
                        let least = if saving { 0.5 } else { best.0 };
                        if share > least {
                            *best = (share, label);
                        }
                    });
                }
                best.mapv(|(_, label)| label)
            });
            assert_labels(name, &found, &group.i16(expected), tolerance);
        } else {
            let found = per_channel(&group.f32(input), |channel| {
                resample_array(channel, new, from, to, how)
            });
            assert_close(name, &found, &group.f32(expected), tolerance);
        }
    }
}

#[test]
fn labels_are_resampled_as_in_nnunet() {
    let group = Group::read("resampling");
    let cases = group.cases("seg_");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let p = &case["params"];
        let found = per_channel(&group.i16(&case["inputs"]["data"]), |channel| {
            let (from, to) = (spacing(&p["current_spacing"]), spacing(&p["new_spacing"]));
            let rule = separate_z(&p["force_separate_z"]);
            resample_labels_array(channel, shape(&p["new_shape"]), from, to, rule)
        });
        let expected = group.i16(&case["outputs"]["argmax_nearest"]);
        let name = case["name"].as_str().unwrap();
        assert_labels(
            name,
            &found,
            &expected,
            &case["tolerance"]["argmax_nearest"],
        );
    }
}

/// 1 where any channel is not zero, holes not connected to the border by faces included.
fn filled_mask(data: &Array4<f32>) -> Array3<bool> {
    let (_, nz, ny, nx) = data.dim();
    let content = |z, y, x| data.slice(s![.., z, y, x]).iter().any(|&v| v != 0.0);
    let mut outside = Array3::from_elem((nz, ny, nx), false);
    let mut stack = Vec::new();
    for ((z, y, x), _) in outside.indexed_iter() {
        let border = [(z, nz), (y, ny), (x, nx)]
            .iter()
            .any(|&(i, n)| i == 0 || i + 1 == n);
        if border && !content(z, y, x) {
            stack.push([z, y, x]);
        }
    }
    while let Some([z, y, x]) = stack.pop() {
        if std::mem::replace(&mut outside[[z, y, x]], true) {
            continue;
        }
        for axis in 0..3 {
            for step in [-1isize, 1] {
                let mut next = [z, y, x];
                next[axis] = next[axis].wrapping_add_signed(step);
                if outside.get(next) == Some(&false) && !content(next[0], next[1], next[2]) {
                    stack.push(next);
                }
            }
        }
    }
    outside.mapv(|o| !o)
}

/// The union of the channels' boxes, which is the box of nnU-Net's joint mask.
fn joint_region(data: &Array4<f32>) -> Region {
    let joint = data.map_axis(Axis(0), |c| f32::from(c.iter().any(|&v| v != 0.0)));
    nonzero_region(joint.view())
}

fn four(data: ArrayD<f32>) -> Array4<f32> {
    data.into_dimensionality().unwrap()
}

#[test]
fn the_nonzero_box_is_nnunets() {
    let group = Group::read("preprocess");
    let cases = group.cases("crop_");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let region = joint_region(&four(group.f32(&case["inputs"]["data"])));
        let expected: Vec<_> = case["outputs"]["bbox"].as_array().unwrap().iter().collect();
        for (axis, range) in expected.into_iter().enumerate() {
            let found = [region.start[axis] as u64, region.end[axis] as u64];
            assert_eq!(
                found.map(Value::from).as_slice(),
                range.as_array().unwrap().as_slice()
            );
        }
    }
}

/// Normalises one channel by the scheme's name; `segmentation` < 0 lies outside the image.
fn normalise(
    channel: &mut Array3<f32>,
    scheme: &str,
    segmentation: Option<ArrayView3<'_, i16>>,
    properties: &Value,
) {
    let property = |name: &str| properties[name].as_f64().unwrap();
    let mut view = channel.view_mut();
    match (scheme, segmentation) {
        // Version 1 ("nonCT") adds 1e-8 to the deviation where version 2 takes the larger of both.
        ("ZScoreNormalization" | "nonCT", None) => {
            z_score(&mut view).unwrap();
        }
        ("RescaleTo01Normalization", _) => {
            min_max(&mut view, [0.0, 1.0]).unwrap();
        }
        ("RGBTo01Normalization", _) => {
            let statistics = Statistics {
                mean: 0.0,
                std: 255.0,
            };
            clip_and_scale(&mut view, [f32::MIN, f32::MAX], statistics).unwrap();
        }
        ("ZScoreNormalization", Some(segmentation)) => {
            z_score_masked(&mut view, segmentation.mapv(|l| l >= 0).view()).unwrap();
        }
        ("CTNormalization", _) => {
            let limits = ["percentile_00_5", "percentile_99_5"].map(|n| property(n) as f32);
            let statistics = Statistics {
                mean: property("mean"),
                std: property("std"),
            };
            clip_and_scale(&mut view, limits, statistics).unwrap();
        }
        (other, _) => panic!("scheme {other}"),
    }
}

#[test]
fn intensities_are_normalised_as_in_nnunet() {
    let group = Group::read("preprocess");
    for name in [
        "zscore",
        "zscore_masked",
        "zscore_mask_given_but_off",
        "zscore_constant",
        "zscore_v1",
        "ct",
        "rescale01",
        "rgb01",
    ] {
        let case = group
            .cases(name)
            .into_iter()
            .find(|c| c["name"] == name)
            .unwrap();
        let p = &case["params"];
        let mut image = group
            .f32(&case["inputs"]["image"])
            .into_dimensionality()
            .unwrap();
        let masked = p["use_mask_for_norm"].as_bool().unwrap_or(false);
        let segmentation = masked.then(|| {
            group
                .i16(&case["inputs"]["seg"])
                .into_dimensionality()
                .unwrap()
        });
        let scheme = p["scheme"].as_str().unwrap();
        let view = segmentation.as_ref().map(|s: &Array3<i16>| s.view());
        normalise(&mut image, scheme, view, &p["intensity_properties"]);
        let expected = group.f32(&case["outputs"]["result"]);
        assert_close(
            name,
            &image.into_dyn(),
            &expected,
            &case["tolerance"]["result"],
        );
    }
}

#[test]
fn whole_cases_are_preprocessed_as_in_nnunet() {
    let group = Group::read("preprocess");
    let cases = group.cases("case_");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let p = &case["params"];
        let order = shape(&p["transpose_forward"]);
        let channels = [0, 1 + order[0], 1 + order[1], 1 + order[2]];
        let data = four(group.f32(&case["inputs"]["data"])).permuted_axes(channels);
        let segmentation: Option<Array3<i16>> = case["inputs"].get("seg").map(|reference| {
            let four: Array4<i16> = group.i16(reference).into_dimensionality().unwrap();
            four.index_axis_move(Axis(0), 0).permuted_axes(order)
        });
        let file_spacing = triple(&p["spacing"]);
        let from = Spacing::try_from(order.map(|a| file_spacing[a])).unwrap();
        let to = spacing(&p["target_spacing"]);

        let Region { start: a, end: b } = joint_region(&data);
        let mask = filled_mask(&data);
        let inside = s![a[0]..b[0], a[1]..b[1], a[2]..b[2]];
        let mut labels = mask.mapv(|m| if m { 0 } else { -1 });
        if let Some(segmentation) = segmentation {
            labels.zip_mut_with(&segmentation, |label, &s| {
                if s != 0 {
                    *label = s
                }
            });
        }
        let labels = labels.slice(inside);

        let normalised: Vec<Array3<f32>> = data
            .outer_iter()
            .enumerate()
            .map(|(c, channel)| {
                let mut channel = channel.slice(inside).to_owned();
                let masked = p["use_mask_for_norm"][c].as_bool().unwrap();
                let scheme = p["normalization_schemes"][c].as_str().unwrap();
                normalise(
                    &mut channel,
                    scheme,
                    masked.then_some(labels),
                    &p["intensity_properties"],
                );
                let new = resampled_shape(Region { start: a, end: b }.shape(), from, to);
                resample_array(channel.view(), new, from, to, Resampling::IMAGE)
            })
            .collect();
        let views: Vec<_> = normalised.iter().map(|c| c.view()).collect();
        let found = ndarray::stack(Axis(0), &views).unwrap().into_dyn();
        assert_close(
            name,
            &found,
            &group.f32(&case["outputs"]["data"]),
            &case["tolerance"]["data"],
        );

        let new = resampled_shape(Region { start: a, end: b }.shape(), from, to);
        let resampled = resample_labels_array(labels, new, from, to, SeparateZ::Auto);
        let found = resampled.insert_axis(Axis(0)).into_dyn();
        assert_labels(
            name,
            &found,
            &group.i16(&case["outputs"]["seg"]),
            &case["tolerance"]["seg"],
        );
    }
}
