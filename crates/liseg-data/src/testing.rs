//! What several tests need: golden values, a plan, a small data set on disk.

use crate::{Dataset, Normalization, Plan, topology};
use liseg_mri::nifti;
use liseg_volume::{Affine, LabelMap, Orientation, Spacing, Volume};
use ndarray::{Array, Array3, ArrayD, Axis, IxDyn};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// A file of golden values.
pub(crate) fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(golden_file(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// One case of a golden file.
pub(crate) fn case<'a>(golden: &'a Value, name: &str) -> &'a Value {
    let cases = golden["cases"].as_array().unwrap();
    cases.iter().find(|case| case["name"] == name).unwrap()
}

/// The rows of a golden case that is a table.
pub(crate) fn table<'a>(golden: &'a Value, name: &str) -> &'a [Value] {
    case(golden, name)["outputs"]["table"].as_array().unwrap()
}

/// The arrays of a golden file.
pub(crate) struct Tensors(Vec<u8>);

impl Tensors {
    pub(crate) fn read(name: &str) -> Self {
        Self(std::fs::read(golden_file(name)).unwrap())
    }

    /// A three-dimensional array, a leading channel axis of 1 dropped, of any number type.
    pub(crate) fn f32(&self, name: &str) -> Array3<f32> {
        let mut channels = self.channels(name);
        assert_eq!(channels.len(), 1, "{name} has several channels");
        channels.remove(0)
    }

    /// The channels of an array; one for an array of three axes.
    pub(crate) fn channels(&self, name: &str) -> Vec<Array3<f32>> {
        let array = self.array(name);
        let array = match array.ndim() {
            3 => array.insert_axis(Axis(0)),
            _ => array,
        };
        let three =
            |channel: ndarray::ArrayViewD<'_, f32>| channel.to_owned().into_dimensionality();
        array.outer_iter().map(|c| three(c).unwrap()).collect()
    }

    fn array(&self, name: &str) -> ArrayD<f32> {
        use safetensors::Dtype;
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let bytes = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => numbers::<4>(bytes, f32::from_le_bytes),
            Dtype::F64 => numbers::<8>(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::I8 => numbers::<1>(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U8 => numbers::<1>(bytes, |b| f32::from(u8::from_le_bytes(b))),
            Dtype::I16 => numbers::<2>(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::I32 => numbers::<4>(bytes, |b| i32::from_le_bytes(b) as f32),
            other => panic!("{name} is of type {other:?}"),
        };
        Array::from_shape_vec(IxDyn(tensor.shape()), values).unwrap()
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    elements.iter().map(|&element| number(element)).collect()
}

/// Background and liver.
pub(crate) fn labels() -> BTreeMap<String, u8> {
    BTreeMap::from([("background".to_owned(), 0), ("liver".to_owned(), 1)])
}

/// The plan of thick slices.
pub(crate) fn plan() -> Plan {
    let spacing = Spacing::new(7.7, 2.5, 2.5).unwrap();
    let patch_size = [32, 96, 96];
    Plan {
        dataset_name: "test".into(),
        orientation: Orientation::RAS,
        spacing,
        median_image_size_in_voxels: [36.0, 128.0, 128.0],
        patch_size,
        batch_size: 2,
        pool_op_kernel_sizes: topology::five_strides(spacing.zyx(), [32.0, 96.0, 96.0]),
        normalization_scheme: Normalization::ZScore,
        normalization_by_phase: BTreeMap::new(),
        use_mask_for_norm: false,
        foreground_intensity_properties: None,
        labels: labels(),
        original_median_spacing: spacing,
        original_median_shape: [36.0, 128.0, 128.0],
    }
}

/// A left-handed, slightly tilted grid with its own origin, as scanners make them.
pub(crate) fn affine(index: usize) -> Affine {
    let (s, c) = 0.02f64.sin_cos();
    Affine::from_columns(
        [-2.0 * c, -2.0 * s, 0.0],
        [-2.0 * s, 2.0 * c, 0.0],
        [0.0, 0.0, 3.0],
        [40.0 + index as f64, -20.0, 7.0],
    )
    .unwrap()
}

/// Shape of the images of [`dataset`].
pub(crate) fn shape(index: usize) -> [usize; 3] {
    [10 + index, 24, 20 + 2 * index]
}

/// An image with an empty border, and a label in it.
pub(crate) fn image_and_label(index: usize) -> (Volume<f32>, LabelMap) {
    let shape = shape(index);
    let inside = |z: usize, y: usize, x: usize| z > 0 && y > 1 && (2..shape[2] - 1).contains(&x);
    let label = |z: usize, y: usize, x: usize| {
        let [a, b, c] = [z, y, x].map(|v| v as f64);
        let far = ((a - 5.0) * 1.5).powi(2) + (b - 11.0).powi(2) + (c - 12.0).powi(2);
        u8::from(far < 25.0)
    };
    let image = Array3::from_shape_fn(shape, |(z, y, x)| {
        let texture = ((z * 31 + y * 17 + x * 7 + index) % 23) as f32;
        let tissue = 50.0 + texture + 100.0 * f32::from(label(z, y, x));
        if inside(z, y, x) { tissue } else { 0.0 }
    });
    let label = Array3::from_shape_fn(shape, |(z, y, x)| label(z, y, x));
    let affine = affine(index);
    (
        Volume::new(image, affine).unwrap(),
        LabelMap::new(label, affine).unwrap(),
    )
}

/// Writes a data set of three labelled, two unlabelled and one test case.
pub(crate) fn write_dataset(folder: &Path) {
    for name in ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for index in 0..6 {
        let (images, labels) = match index {
            0..3 => ("imagesTr", Some("labelsTr")),
            3 => ("imagesTr", None),
            4 => ("imagesUn", None),
            _ => ("imagesTs", Some("labelsTs")),
        };
        let (image, label) = image_and_label(index);
        let path = folder
            .join(images)
            .join(format!("case_{index}_0000.nii.gz"));
        nifti::write_image(&path, &image, None).unwrap();
        if let Some(labels) = labels {
            let path = folder.join(labels).join(format!("case_{index}.nii.gz"));
            nifti::write_labels(&path, &label, None).unwrap();
        }
    }
    let description = json!({
        "name": "tiny",
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    });
    std::fs::write(folder.join("dataset.json"), description.to_string()).unwrap();
    let attributes: Vec<Value> = (0..6)
        .map(|i| {
            json!({
                "id": format!("case_{i}"),
                "patient": format!("patient_{}", i / 2),
                "phase": if i % 2 == 0 { "GED4" } else { "T2" },
                "vendor": "A",
                "split": "ignored",
            })
        })
        .collect();
    let text = serde_json::to_string(&attributes).unwrap();
    std::fs::write(folder.join("cases.json"), text).unwrap();
}

/// The data set of [`write_dataset`] in a folder that lives as long as the first value.
pub(crate) fn dataset() -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(folder.path());
    let dataset = Dataset::open(folder.path()).unwrap();
    (folder, dataset)
}

/// A plan for that data set: patches of 8×16×16 voxels.
pub(crate) fn tiny_plan() -> Plan {
    let patch = [8, 16, 16];
    let spacing = Spacing::new(3.0, 2.5, 2.5).unwrap();
    let strides = topology::five_strides(spacing.zyx(), patch.map(|n| n as f64));
    Plan {
        dataset_name: "tiny".into(),
        spacing,
        patch_size: patch,
        pool_op_kernel_sizes: strides,
        ..plan()
    }
}
