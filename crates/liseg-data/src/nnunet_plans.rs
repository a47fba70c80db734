//! nnU-Net's own planner: the plans that nnU-Net v2 would make of a fingerprint, in its file format.
//!
//! [`Plan`](crate::Plan) is what LiSeg trains by; this is for running nnU-Net beside it on the same
//! data, and the reference that the rules shared by both are tested on.

use crate::capacity::plain_unet_numbers;
use crate::fingerprint::percentile;
use crate::planner::target;
use crate::topology::Topology;
use crate::{Error, Fingerprint, Result, json};
use serde_json::{Map, Value, json};
use std::path::Path;

/// What nnU-Net's planner looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct NnunetPlanner {
    /// Name of the data set, as in `Dataset001_Liver`.
    pub dataset_name: String,
    /// Spacings of the training images, `[z, y, x]` in mm.
    pub spacings: Vec<[f64; 3]>,
    /// Their shapes after cropping, `[z, y, x]` in voxels.
    pub shapes: Vec<[usize; 3]>,
    /// Median share of voxels that cropping leaves.
    pub relative_size: f64,
    /// Names of the channels, which choose their normalization.
    pub channels: Vec<String>,
    /// Number of labels, background included.
    pub labels: usize,
    /// Memory of the device that plans are made for; 8 as in nnU-Net.
    pub gigabytes: f64,
    /// Intensities in the foreground, by number of channel; left out when null.
    pub intensities: Value,
}

/// A configuration before it is written.
struct Configuration {
    spacing: Vec<f64>,
    median: Vec<f64>,
    patch: Vec<usize>,
    batch: usize,
    strides: Vec<Vec<usize>>,
    kernels: Vec<Vec<usize>>,
    features: Vec<usize>,
    batch_dice: bool,
}

impl NnunetPlanner {
    /// The planner for a data set with one MRI channel.
    pub fn new(dataset_name: &str, fingerprint: &Fingerprint, labels: usize) -> Self {
        let intensities = match &fingerprint.foreground {
            Some(foreground) => json!({"0": foreground}),
            None => Value::Null,
        };
        Self {
            dataset_name: dataset_name.to_owned(),
            spacings: fingerprint.cases.iter().map(|c| c.spacing.zyx()).collect(),
            shapes: fingerprint
                .cases
                .iter()
                .map(|c| c.shape_after_crop)
                .collect(),
            relative_size: fingerprint.median_relative_size_after_cropping,
            channels: vec!["MRI".to_owned()],
            labels,
            gigabytes: 8.0,
            intensities,
        }
    }

    /// nnU-Net's `nnUNetPlans.json`.
    ///
    /// # Errors
    /// [`Error::Setting`] when there are no cases.
    pub fn plans(&self) -> Result<Value> {
        if self.spacings.is_empty() || self.spacings.len() != self.shapes.len() {
            let reason = "there are no cases, or not as many shapes as spacings";
            return Err(Error::setting("fingerprint", reason));
        }
        let shapes: Vec<[f64; 3]> = self.shapes.iter().map(|s| s.map(|n| n as f64)).collect();
        let target = target(&self.spacings, &shapes);
        // The last of the coarsest would do as well; NumPy takes the first.
        let first = (1..3).fold(0, |w, a| if target[a] > target[w] { a } else { w });
        let mut forward = vec![first];
        forward.extend((0..3).filter(|&axis| axis != first));
        let mut backward = vec![0; 3];
        for (place, &axis) in forward.iter().enumerate() {
            backward[axis] = place;
        }
        let in_order =
            |of: &dyn Fn(usize) -> f64| -> Vec<f64> { forward.iter().map(|&a| of(a)).collect() };
        let median = in_order(&|axis| {
            let mut sizes: Vec<f64> = self
                .spacings
                .iter()
                .zip(&shapes)
                .map(|(s, n)| (s[axis] / target[axis] * n[axis]).round_ties_even())
                .collect();
            percentile(&mut sizes, 50.0)
        });
        let spacing = in_order(&|axis| target[axis]);
        let middle = |rows: &[[f64; 3]]| {
            in_order(&|axis| {
                percentile(&mut rows.iter().map(|r| r[axis]).collect::<Vec<_>>(), 50.0)
            })
        };
        let original: Vec<u64> = middle(&shapes)
            .iter()
            .map(|n| n.round_ties_even() as u64)
            .collect();

        let mut plans = Map::new();
        let mut add = |key: &str, value: Value| plans.insert(key.into(), value);
        add("dataset_name", json!(self.dataset_name));
        add("plans_name", json!("nnUNetPlans"));
        add(
            "original_median_spacing_after_transp",
            json!(middle(&self.spacings)),
        );
        add("original_median_shape_after_transp", json!(original));
        add("image_reader_writer", json!("SimpleITKIO"));
        add("transpose_forward", json!(forward));
        add("transpose_backward", json!(backward));
        add("configurations", self.configurations(&spacing, &median));
        add("experiment_planner_used", json!("ExperimentPlanner"));
        add("label_manager", json!("LabelManager"));
        if !self.intensities.is_null() {
            let key = "foreground_intensity_properties_per_channel";
            add(key, self.intensities.clone());
        }
        Ok(Value::Object(plans))
    }

    /// Writes [`NnunetPlanner::plans`].
    ///
    /// # Errors
    /// As [`NnunetPlanner::plans`], and [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, &self.plans()?)
    }

    fn configurations(&self, spacing: &[f64], median: &[f64]) -> Value {
        let cases = self.shapes.len() as f64;
        let voxels = median.iter().product::<f64>() * cases;
        let mut all = Map::new();
        let mut flat = self.plan(&spacing[1..], &median[1..], voxels);
        flat.batch_dice = true;
        all.insert("2d".into(), self.write_out("2d", &flat));
        // A data set of single slices has no third dimension.
        if (median[0] - 1.0).abs() < 1e-9 {
            return Value::Object(all);
        }
        let mut full = self.plan(spacing, median, voxels);
        let low = self.low_resolution(&full, spacing, median);
        full.batch_dice = low.is_some();
        all.insert("3d_fullres".into(), self.write_out("3d_fullres", &full));
        if let Some(low) = low {
            let mut value = self.write_out("3d_lowres", &low);
            value["next_stage"] = json!("3d_cascade_fullres");
            all.insert("3d_lowres".into(), value);
            let cascade = json!({"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"});
            all.insert("3d_cascade_fullres".into(), cascade);
        }
        Value::Object(all)
    }

    /// Coarser and coarser until a patch covers a quarter of the image; `None` when that is not much
    /// coarser.
    fn low_resolution(
        &self,
        full: &Configuration,
        spacing: &[f64],
        median: &[f64],
    ) -> Option<Configuration> {
        let product = |sizes: &[f64]| sizes.iter().product::<f64>();
        let covered = |patch: &[usize]| patch.iter().product::<usize>() as f64;
        let mut coarse = spacing.to_vec();
        let (mut size, mut patch) = (product(median), covered(&full.patch));
        let mut low = None;
        while patch / size < 0.25 {
            let coarsest = coarse.iter().copied().fold(0.0, f64::max);
            let fine: Vec<bool> = coarse.iter().map(|s| coarsest / s > 2.0).collect();
            let any = fine.contains(&true);
            for (mm, fine) in coarse.iter_mut().zip(fine) {
                if fine || !any {
                    *mm *= 1.03;
                }
            }
            let sizes: Vec<f64> = (0..3).map(|a| spacing[a] / coarse[a] * median[a]).collect();
            size = product(&sizes);
            let rounded: Vec<f64> = sizes.iter().map(|n| n.round_ties_even()).collect();
            let planned = self.plan(&coarse, &rounded, size * self.shapes.len() as f64);
            patch = covered(&planned.patch);
            low = Some(planned);
        }
        low.filter(|_| product(median) / size >= 2.0)
    }

    /// Patch, poolings and batch on one grid of two or three axes.
    fn plan(&self, spacing: &[f64], median: &[f64], voxels: f64) -> Configuration {
        let axes = spacing.len();
        let (edge, most, reference, reference_batch) = match axes {
            3 => (256f64, 320, 560e6, 2.0),
            _ => (2048f64, 512, 85e6, 12.0),
        };
        let reference = reference * self.gigabytes / 8.0;
        let per_mm: Vec<f64> = spacing.iter().map(|mm| 1.0 / mm).collect();
        let density = per_mm.iter().product::<f64>();
        let scale = (edge.powi(axes as i32) / density).powf(1.0 / axes as f64);
        let start: Vec<f64> = per_mm
            .iter()
            .zip(median)
            .map(|(v, &m)| (v * scale).round_ties_even().min(m))
            .collect();
        let features = |stages: usize| -> Vec<usize> {
            (0..stages)
                .map(|s| (32usize << s.min(20)).min(most))
                .collect()
        };
        let numbers = |topology: &Topology| {
            let mut strides = vec![vec![1; axes]];
            strides.extend(topology.strides.clone());
            let features = features(strides.len());
            plain_unet_numbers(&topology.padded, &strides, &features, 2, self.labels) as f64
        };
        let mut topology = Topology::new(spacing, &start);
        while numbers(&topology) / reference_batch * 2.0 > reference {
            let patch = &topology.padded;
            let share = |axis: &usize| patch[*axis] as f64 / median[*axis];
            // Ties go to the last axis.
            let Some(axis) = (0..axes).max_by(|a, b| share(a).total_cmp(&share(b))) else {
                break;
            };
            let shorter = |step: usize| -> Vec<f64> {
                let mut size: Vec<f64> = patch.iter().map(|&n| n as f64).collect();
                size[axis] -= step as f64;
                size
            };
            let step = Topology::new(spacing, &shorter(topology.divisor[axis])).divisor[axis];
            let next = Topology::new(spacing, &shorter(step));
            if next.padded == topology.padded {
                break;
            }
            topology = next;
        }
        let patch_voxels = topology.padded.iter().product::<usize>() as f64;
        let fitting = (reference / numbers(&topology) * reference_batch).round_ties_even();
        let share = (voxels * 0.05 / patch_voxels).round_ties_even();
        let mut strides = vec![vec![1; axes]];
        strides.extend(topology.strides);
        Configuration {
            spacing: spacing.to_vec(),
            median: median.to_vec(),
            patch: topology.padded,
            batch: fitting.min(share).max(2.0) as usize,
            features: features(strides.len()),
            strides,
            kernels: topology.kernels,
            batch_dice: false,
        }
    }

    fn write_out(&self, name: &str, c: &Configuration) -> Value {
        let resample = "resample_data_or_seg_to_shape";
        let kwargs = |is_seg: bool, order: u8| json!({"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": null});
        let axes = c.spacing.len();
        let stages = c.strides.len();
        let schemes: Vec<&str> = self.channels.iter().map(|name| scheme(name)).collect();
        let masked: Vec<bool> = schemes
            .iter()
            .map(|&s| s == "ZScoreNormalization" && self.relative_size < 0.75)
            .collect();
        json!({
            "data_identifier": format!("nnUNetPlans_{name}"),
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": c.batch,
            "patch_size": c.patch,
            "median_image_size_in_voxels": c.median,
            "spacing": c.spacing,
            "normalization_schemes": schemes,
            "use_mask_for_norm": masked,
            "resampling_fn_data": resample,
            "resampling_fn_seg": resample,
            "resampling_fn_data_kwargs": kwargs(false, 3),
            "resampling_fn_seg_kwargs": kwargs(true, 1),
            "resampling_fn_probabilities": resample,
            "resampling_fn_probabilities_kwargs": kwargs(false, 1),
            "architecture": {
                "network_class_name":
                    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": stages,
                    "features_per_stage": c.features,
                    "conv_op": format!("torch.nn.modules.conv.Conv{axes}d"),
                    "kernel_sizes": c.kernels,
                    "strides": c.strides,
                    "n_conv_per_stage": vec![2; stages],
                    "n_conv_per_stage_decoder": vec![2; stages - 1],
                    "conv_bias": true,
                    "norm_op": format!("torch.nn.modules.instancenorm.InstanceNorm{axes}d"),
                    "norm_op_kwargs": {"eps": 1e-5, "affine": true},
                    "dropout_op": null,
                    "dropout_op_kwargs": null,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": true},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            "batch_dice": c.batch_dice,
        })
    }
}

/// The normalization that a channel's name chooses.
fn scheme(channel: &str) -> &'static str {
    match channel.to_lowercase().as_str() {
        "ct" => "CTNormalization",
        "nonorm" => "NoNormalization",
        "rescale_to_0_1" => "RescaleTo01Normalization",
        "rgb_to_0_1" => "RGBTo01Normalization",
        _ => "ZScoreNormalization",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::from_value;

    fn planner(case: &Value, name: &str) -> NnunetPlanner {
        let p = &case["params"];
        let fingerprint = &p["fingerprint"];
        NnunetPlanner {
            dataset_name: name.to_owned(),
            spacings: from_value(fingerprint["spacings"].clone()).unwrap(),
            shapes: from_value(fingerprint["shapes_after_crop"].clone()).unwrap(),
            relative_size: fingerprint["median_relative_size_after_cropping"]
                .as_f64()
                .unwrap(),
            channels: from_value(p["channel_names"].clone()).unwrap(),
            labels: p["n_labels_with_background"].as_u64().unwrap() as usize,
            gigabytes: p["gpu_memory_target_gb"].as_f64().unwrap(),
            intensities: Value::Null,
        }
    }

    /// Equal but for the last digits of numbers.
    fn close(found: &Value, expected: &Value, at: &str) {
        match (found, expected) {
            (Value::Object(a), Value::Object(b)) => {
                for (key, value) in b {
                    close(
                        a.get(key).unwrap_or(&Value::Null),
                        value,
                        &format!("{at}.{key}"),
                    );
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                assert_eq!(a.len(), b.len(), "{at}: {found} {expected}");
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    close(a, b, &format!("{at}[{i}]"));
                }
            }
            (Value::Number(a), Value::Number(b)) => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                assert!((a - b).abs() < 1e-9, "{at}: {a} {b}");
            }
            _ => assert_eq!(found, expected, "{at}"),
        }
    }

    /// The reference lists part of the architecture beside the rest.
    fn flattened(plans: &Value) -> Value {
        let mut plans = plans.clone();
        for configuration in plans["configurations"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            let architecture = configuration["architecture"]["arch_kwargs"].clone();
            let kwargs = architecture.as_object().cloned().unwrap_or_default();
            configuration.as_object_mut().unwrap().extend(kwargs);
        }
        plans
    }

    #[test]
    fn golden_plan_experiment() {
        let golden = testing::golden("nnunet/planner.json");
        let cases = golden["cases"].as_array().unwrap().iter();
        let cases: Vec<&Value> = cases
            .filter(|case| case["op"] == "plan_experiment")
            .collect();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let plans = flattened(&planner(case, name).plans().unwrap());
            close(&plans, &case["outputs"], name);
            let found = plans["configurations"].as_object().unwrap().keys();
            let expected = case["outputs"]["configurations"]
                .as_object()
                .unwrap()
                .keys();
            assert!(found.eq(expected), "{name}: other configurations");
        }
    }

    #[test]
    fn golden_plans_json() {
        let golden = testing::golden("nnunet/planner.json");
        let case = testing::case(&golden, "liver_mri_dynamic");
        let plans = planner(case, "Dataset100_liver_mri_dynamic")
            .plans()
            .unwrap();
        let example = testing::case(&golden, "plans_json_example");
        assert_eq!(plans, example["outputs"]["plans"]);
    }
}
