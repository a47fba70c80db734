//! Parity with SciPy, edt, cc3d, SimpleITK and MONAI on stored masks.
//!
//! The files lie in the repository's `tests/fixtures/metrics`.

use liseg_morphology::{
    Connectivity, Ties, connected_components, fill_foreground_holes, fill_holes,
    fill_holes_in_slices, keep_largest, keep_largest_foreground, signed_distance,
    squared_distance_where,
};
use liseg_volume::{Affine, LabelMap, Spacing};
use ndarray::Array3;
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};

const CONNECTIVITIES: [(&str, Connectivity); 3] = [
    ("6", Connectivity::Face),
    ("18", Connectivity::Edge),
    ("26", Connectivity::Vertex),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/metrics")
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Voxels `[z, y, x]` of a file whose axes are (x, y, z).
fn voxels(path: PathBuf) -> Array3<u32> {
    let volume = ReaderOptions::new().read_file(path).unwrap().into_volume();
    let data = volume.into_ndarray::<u32>().unwrap();
    let shape = [data.shape()[2], data.shape()[1], data.shape()[0]];
    Array3::from_shape_fn(shape, |(z, y, x)| data[[x, y, z]])
}

#[test]
fn components_equal_the_libraries() {
    let golden = golden();
    let cases = json(golden.join("postprocess.json"))["components"].take();
    let mut checked = 0;
    for (name, case) in cases.as_object().unwrap() {
        let Some(expected) = case["by_connectivity"].as_object() else {
            // A label map: the components of each label, which stay apart where labels touch.
            let labels = voxels(golden.join(format!("volumes/cc_{name}.nii.gz")));
            for (key, connectivity) in CONNECTIVITIES {
                let of_label = |label| {
                    let mask = labels.map(|&found| found == label);
                    connected_components(mask.view(), connectivity).count()
                };
                let most = labels.iter().copied().max().unwrap_or(0);
                let count: usize = (1..=most).map(of_label).sum();
                assert_eq!(case["count"][key], count, "{name} {key}");
                checked += 1;
            }
            continue;
        };
        let path = |suffix: &str| golden.join(format!("volumes/cc_{name}{suffix}.nii.gz"));
        let mask = voxels(path("")).map(|&v| v > 0);
        for (key, connectivity) in CONNECTIVITIES {
            let expected = &expected[key];
            let components = connected_components(mask.view(), connectivity);
            assert_eq!(components.count() as u64, expected["count"], "{name} {key}");
            let sizes: Vec<u64> = components.sizes().iter().map(|&s| s as u64).collect();
            assert_eq!(serde_json::json!(sizes), expected["sizes_in_label_order"]);
            let labels = voxels(path(&format!("_labels{key}")));
            assert_eq!(components.labels(), labels, "{name} {key}");

            let kept = keep_largest(mask.view(), connectivity, Ties::First);
            let label = expected["largest_label_first_on_tie"].as_u64();
            let largest = labels.map(|&l| label == Some(u64::from(l)));
            assert_eq!(kept, largest, "{name} {key}");
            let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
            let mut map = LabelMap::new(mask.map(|&v| u8::from(v)), affine).unwrap();
            keep_largest_foreground(&mut map, connectivity, Ties::First);
            assert_eq!(map.data().map(|&v| v > 0), largest, "{name} {key}");

            let all = components.largest(Ties::All);
            let tied = expected["largest_is_tied"].as_bool().unwrap_or(false);
            assert_eq!(all.len() > 1, tied, "{name} {key}");
            checked += 1;
        }
    }
    assert_eq!(checked, 24 + 3);
}

#[test]
fn filled_holes_equal_the_libraries() {
    let golden = golden();
    let cases = json(golden.join("postprocess.json"))["fill_holes"].take();
    for (name, case) in cases.as_object().unwrap() {
        let path = |suffix: &str| golden.join(format!("volumes/holes_{name}{suffix}.nii.gz"));
        let mask = voxels(path("")).map(|&v| v > 0);
        let vertex = fill_holes(mask.view(), Connectivity::Vertex);
        let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
        let mut map = LabelMap::new(mask.map(|&v| u8::from(v)), affine).unwrap();
        fill_foreground_holes(&mut map, Connectivity::Vertex);
        assert_eq!(map.data().map(|&v| v > 0), vertex, "{name}");
        for (rule, filled) in [
            ("background6", vertex),
            ("background26", fill_holes(mask.view(), Connectivity::Face)),
            (
                "slices_z_background4",
                fill_holes_in_slices(mask.view(), Connectivity::Vertex),
            ),
        ] {
            let expected = voxels(path(&format!("_{rule}"))).map(|&v| v > 0);
            assert_eq!(filled, expected, "{name} {rule}");
            let count = filled.iter().filter(|&&v| v).count() as u64;
            assert_eq!(count, case["foreground_after"][rule], "{name} {rule}");
        }
    }
}

/// A tensor `[x][y][z]` of the archive as `[z, y, x]`.
fn tensor<T: Copy, const N: usize>(
    archive: &safetensors::SafeTensors<'_>,
    name: &str,
    from_le: impl Fn([u8; N]) -> T,
) -> Option<Array3<T>> {
    let tensor = archive.tensor(name).ok()?;
    let [width, height, depth] = tensor.shape().try_into().unwrap();
    Some(Array3::from_shape_fn(
        [depth, height, width],
        |(z, y, x)| {
            let index = (x * height + y) * depth + z;
            from_le(
                tensor.data()[index * N..(index + 1) * N]
                    .try_into()
                    .unwrap(),
            )
        },
    ))
}

#[test]
fn distances_equal_scipy_and_edt() {
    let golden = golden();
    let cases = json(golden.join("edt.json"))["cases"].take();
    let bytes = std::fs::read(golden.join("edt.safetensors")).unwrap();
    let archive = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut checked = 0;
    for (name, case) in cases.as_object().unwrap() {
        let spacing = |case: &Value| {
            let [x, y, z] = [0, 1, 2].map(|a| case["spacing"][a].as_f64().unwrap());
            Spacing::new(z, y, x).unwrap()
        };
        let Some(mask) = tensor(&archive, &format!("{name}.mask"), |[v]: [u8; 1]| v) else {
            continue;
        };
        // Object voxels measure to the nearest background voxel.
        let squared = squared_distance_where(mask.view(), |&v| v == 0, spacing(case));
        let compare = |expected: Array3<f64>, tolerance: f64| {
            for (a, b) in squared.iter().zip(&expected) {
                let equal =
                    a.total_cmp(b).is_eq() || (a - b).abs() <= tolerance * a.abs().max(b.abs());
                assert!(equal, "{name}: {a} instead of {b}");
            }
        };
        let scipy = tensor(
            &archive,
            &format!("{name}.scipy_squared"),
            f64::from_le_bytes,
        );
        if let Some(scipy) = scipy {
            compare(scipy, 1e-12);
            checked += 1;
        }
        let edt = tensor(&archive, &format!("{name}.edt_squared"), f32::from_le_bytes);
        compare(edt.unwrap().map(|&v| f64::from(v)), 1e-5);
        checked += 1;

        // With edt's black border the frame around the image is background.
        let name = format!("{name}.edt_squared_black_border");
        let expected = tensor(&archive, &name, f32::from_le_bytes).unwrap();
        let (depth, height, width) = mask.dim();
        let mut framed = Array3::zeros((depth + 2, height + 2, width + 2));
        let inside = ndarray::s![1..=depth, 1..=height, 1..=width];
        framed.slice_mut(inside).assign(&mask);
        let squared = squared_distance_where(framed.view(), |&v| v == 0, spacing(case));
        for (a, b) in squared.slice(inside).iter().zip(&expected) {
            assert!(
                (a - f64::from(*b)).abs() <= 1e-5 * a.abs(),
                "{name}: {a} instead of {b}"
            );
        }
        checked += 1;
    }
    assert_eq!(checked, 14 + 13 + 14);
}

/// edt measures every voxel of a label map to the nearest voxel of any other value.
#[test]
fn distances_to_other_labels_equal_edt() {
    let golden = golden();
    let case = json(golden.join("edt.json"))["cases"]["multilabel"].take();
    let bytes = std::fs::read(golden.join("edt.safetensors")).unwrap();
    let archive = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let labels = tensor(&archive, "multilabel.labels", |[v]: [u8; 1]| v).unwrap();
    let expected = tensor(&archive, "multilabel.edt_squared", f32::from_le_bytes).unwrap();
    let [x, y, z] = [0, 1, 2].map(|a| case["spacing"][a].as_f64().unwrap());
    let spacing = Spacing::new(z, y, x).unwrap();
    let most = labels.iter().copied().max().unwrap();
    assert!(most > 1);
    for label in 1..=most {
        let found = squared_distance_where(labels.view(), |&v| v != label, spacing);
        let voxels = found.iter().zip(&expected).zip(&labels);
        for ((a, b), _) in voxels.filter(|&(_, &l)| l == label) {
            assert!(
                (a - f64::from(*b)).abs() <= 1e-5 * a,
                "{label}: {a} instead of {b}"
            );
        }
    }
}

#[test]
fn signed_distance_equals_scipy() {
    let golden = golden();
    let case = json(golden.join("edt.json"))["cases"]["signed"].take();
    let bytes = std::fs::read(golden.join("edt.safetensors")).unwrap();
    let archive = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let name = "signed.label1_out_minus_in";
    let expected = tensor(&archive, name, f64::from_le_bytes).unwrap();
    let labels = tensor(&archive, "multilabel.labels", |[v]: [u8; 1]| v).unwrap();
    let [x, y, z] = [0, 1, 2].map(|a| case["spacing"][a].as_f64().unwrap());
    let spacing = Spacing::new(z, y, x).unwrap();
    let found = signed_distance(labels.map(|&l| l == 1).view(), spacing);
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} instead of {b}");
    }
}
