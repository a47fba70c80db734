//! Parity with MedPy, MONAI, Metrics Reloaded and SimpleITK on stored pairs of masks.
//!
//! The files are found beside the folder that the environment variable `LISEG_DATA` names; without
//! it every test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot read its files must fail loudly"
)]

use liseg_metrics::{
    Convention, Counts, EmptyPolicy, Error, MeanRule, PercentileRule, Points, Settings,
    SurfaceDistances, SurfaceRule, evaluate_case, percentile,
};
use liseg_morphology::{Connectivity, Outside};
use liseg_volume::{Affine, LabelMap, Spacing};
use ndarray::Array3;
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("LISEG_DATA") else {
        eprintln!("skipped: LISEG_DATA is not set");
        return None;
    };
    Some(Path::new(&data).join("../reference/golden/metrics"))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The label map of a file whose axes are (x, y, z), with the spacing of the manifest.
fn label_map(folder: &Path, file: &Value, spacing: &Value) -> LabelMap {
    let path = folder.join(file.as_str().unwrap());
    let volume = ReaderOptions::new().read_file(path).unwrap().into_volume();
    let data = volume.into_ndarray::<u8>().unwrap();
    let size = |axis: usize| data.shape().get(axis).copied().unwrap_or(1);
    let voxels = Array3::from_shape_fn([size(2), size(1), size(0)], |(z, y, x)| {
        data.as_slice_memory_order()
            .map_or(0, |voxels| voxels[(z * size(1) + y) * size(0) + x])
    });
    let [x, y, z] = [0, 1, 2].map(|a| spacing[a].as_f64().unwrap());
    LabelMap::new(voxels, Affine::from_spacing(Spacing::new(z, y, x).unwrap())).unwrap()
}

/// What a JSON value says: a number, or that there is none ("nan", "inf", an error, nothing).
fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn check(found: Option<f64>, expected: &Value, tolerance: f64, what: &str) {
    match (found, number(expected)) {
        (Some(a), Some(b)) => {
            let close = (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0);
            assert!(close, "{what}: {a} instead of {b}");
        }
        (a, b) => assert_eq!(a, b, "{what}"),
    }
}

/// A pair of masks, what every library says about them, and its name.
struct Pair {
    name: String,
    prediction: LabelMap,
    reference: LabelMap,
    values: Value,
    label: Option<u8>,
}

impl Pair {
    fn masks(&self) -> [Array3<bool>; 2] {
        [&self.prediction, &self.reference].map(|map| {
            map.data()
                .map(|&found| self.label.map_or(found > 0, |label| found == label))
        })
    }

    fn distances(&self, rule: SurfaceRule) -> Result<SurfaceDistances, Error> {
        let [p, r] = self.masks();
        SurfaceDistances::between(p.view(), r.view(), self.reference.spacing(), rule)
    }
}

/// All pairs, and the multi-label pair once for every label.
fn pairs(folder: &Path) -> Vec<Pair> {
    let manifest = json(folder.join("manifest.json"));
    let read = |case: &Value, file: &str| label_map(folder, &case[file], &case["spacing"]);
    let mut pairs = Vec::new();
    for case in manifest["pairs"].as_array().unwrap() {
        pairs.push(Pair {
            name: case["id"].as_str().unwrap().to_owned(),
            prediction: read(case, "pred"),
            reference: read(case, "ref"),
            values: case["values"].clone(),
            label: Some(1),
        });
    }
    assert_eq!(pairs.len(), 61);
    let multilabel = &manifest["multilabel"];
    for entry in multilabel["labels"].as_array().unwrap() {
        pairs.push(Pair {
            name: format!("multilabel {}", entry["label"]),
            prediction: read(multilabel, "pred"),
            reference: read(multilabel, "ref"),
            values: entry["values"].clone(),
            label: entry["label"].as_u64().map(|label| label as u8),
        });
    }
    pairs
}

#[test]
fn counts_and_overlap() {
    let Some(golden) = golden() else { return };
    for pair in pairs(&golden) {
        let [p, r] = pair.masks();
        let counts = Counts::of_masks(p.view(), r.view()).unwrap();
        if let Some(label) = pair.label {
            let same = Counts::of_label(pair.prediction.data(), pair.reference.data(), label);
            assert_eq!(same.unwrap(), counts);
        }
        let expected = &pair.values["overlap"];
        for (name, count) in [
            ("tp", counts.true_positive),
            ("fp", counts.false_positive),
            ("fn", counts.false_negative),
            ("tn", counts.true_negative),
            ("n_pred", counts.predicted()),
            ("n_ref", counts.referenced()),
        ] {
            assert_eq!(expected[name], count, "{} {name}", pair.name);
        }
        for (name, value) in [
            ("dice", counts.dice()),
            ("jaccard", counts.iou()),
            ("precision", counts.precision()),
            ("sensitivity", counts.recall()),
            ("specificity", counts.specificity()),
            ("volume_similarity", counts.volume_similarity()),
            (
                "volume_difference_relative_signed",
                counts.relative_volume_error(),
            ),
            ("mcc", counts.matthews_correlation()),
        ] {
            let what = format!("{} {name}", pair.name);
            check(value.ok(), &expected[name], 1e-12, &what);
        }
    }
}

#[test]
fn surface_distances_by_every_rule() {
    let Some(golden) = golden() else { return };
    let boundary = |connectivity, outside| SurfaceRule {
        points: Points::Boundary(connectivity),
        targets: Points::Boundary(connectivity),
        outside,
        ..SurfaceRule::default()
    };
    let (face, edge, vertex) = (Connectivity::Face, Connectivity::Edge, Connectivity::Vertex);
    let rules = [
        ("face6", boundary(face, Outside::Background)),
        ("edge18", boundary(edge, Outside::Background)),
        ("vertex26", boundary(vertex, Outside::Background)),
        ("face6_outside_is_object", boundary(face, Outside::Object)),
        (
            "vertex26_outside_is_object",
            boundary(vertex, Outside::Object),
        ),
        (
            "itk_face_points_to_full_contour",
            Convention::SimpleItkContourFace.rule(),
        ),
        ("all_voxels", Convention::SimpleItkFilter.rule()),
    ];
    let mut checked = 0;
    for pair in pairs(&golden) {
        for (name, rule) in rules {
            let Some(expected) = pair.values["own"].get(name) else {
                continue; // not stored for empty masks
            };
            let what = |value: &str| format!("{} {name} {value}", pair.name);
            let found = pair.distances(rule).ok();
            let take = |value: &dyn Fn(&SurfaceDistances) -> f64| found.as_ref().map(value);
            let percentile =
                |rule| take(&|d: &SurfaceDistances| d.hausdorff_percentile(95.0, rule).unwrap());
            for (key, value) in [
                ("hd", take(&|d| d.hausdorff())),
                (
                    "hd95_max_directed",
                    percentile(PercentileRule::MaxOfDirected),
                ),
                (
                    "hd95_mean_directed",
                    percentile(PercentileRule::MeanOfDirected),
                ),
                ("hd95_pooled", percentile(PercentileRule::Pooled)),
                ("assd_pooled", take(&|d| d.average(MeanRule::Pooled))),
                ("masd", take(&|d| d.average(MeanRule::MeanOfMeans))),
                ("rmsd_pooled", take(&|d| d.root_mean_square())),
            ] {
                check(value, &expected[key], 1e-12, &what(key));
                checked += usize::from(value.is_some());
            }
            if let Some(found) = &found {
                assert_eq!(
                    expected["n_pred"],
                    found.prediction_to_reference().len() as u64
                );
                assert_eq!(
                    expected["n_ref"],
                    found.reference_to_prediction().len() as u64
                );
                for (tolerance, share) in expected["nsd"].as_object().into_iter().flatten() {
                    let value = found.surface_dice(tolerance.parse().unwrap()).unwrap();
                    check(Some(value), share, 1e-12, &what(tolerance));
                }
            }
        }
    }
    assert!(checked > 2500, "only {checked} values were compared");
}

#[test]
fn conventions_reproduce_their_libraries() {
    let Some(golden) = golden() else { return };
    let mut checked = 0;
    for pair in pairs(&golden) {
        let v = &pair.values;
        let itk = &v["simpleitk"];
        let hd = |d: &SurfaceDistances, _: SurfaceRule| d.hausdorff();
        let hd95 = |d: &SurfaceDistances, rule: SurfaceRule| {
            d.hausdorff_percentile(95.0, rule.percentile).unwrap()
        };
        let mean = |d: &SurfaceDistances, rule: SurfaceRule| d.average(rule.mean);
        type Take = fn(&SurfaceDistances, SurfaceRule) -> f64;
        let nsd: Take = |d, _| d.surface_dice(2.0).unwrap();
        let dual_grid = Convention::SurfaceDistance;
        let deep_mind = &v["surface_distance"];
        let values: [(Convention, &Value, Take); 24] = [
            (dual_grid, &deep_mind["robust_hd_100"], hd),
            (dual_grid, &deep_mind["robust_hd_95"], hd95),
            (dual_grid, &deep_mind["surface_dice"]["2.0"], nsd),
            (dual_grid, &v["monai"]["surface_dice_subvoxels"]["2.0"], nsd),
            (Convention::MedPy, &v["medpy"]["hd"], hd),
            (Convention::MedPy, &v["medpy"]["hd95"], hd95),
            (Convention::MedPy, &v["medpy"]["assd"], mean),
            (
                Convention::MedPy04,
                &v["medpy"]["assd_medpy_0_4_rule"],
                mean,
            ),
            (Convention::Monai, &v["monai"]["hd"], hd),
            (Convention::Monai, &v["monai"]["hd95"], hd95),
            (Convention::Monai, &v["monai"]["assd"], mean),
            (
                Convention::Monai,
                &v["monai"]["surface_dice_voxels"]["2.0"],
                nsd,
            ),
            (
                Convention::MetricsReloaded,
                &v["metrics_reloaded"]["hd"],
                hd,
            ),
            (
                Convention::MetricsReloaded,
                &v["metrics_reloaded"]["hd95"],
                hd95,
            ),
            (
                Convention::MetricsReloaded,
                &v["metrics_reloaded"]["assd"],
                mean,
            ),
            (
                Convention::MetricsReloaded,
                &v["metrics_reloaded"]["nsd"]["2.0"],
                nsd,
            ),
            (
                Convention::SimpleItkFilter,
                &itk["hausdorff_filter"]["hd"],
                hd,
            ),
            (
                Convention::SimpleItkFilter,
                &itk["hausdorff_filter"]["average_hd"],
                mean,
            ),
            (
                Convention::SimpleItkContour,
                &itk["contour_recipe_full"]["hd"],
                hd,
            ),
            (
                Convention::SimpleItkContour,
                &itk["contour_recipe_full"]["hd95_pooled"],
                hd95,
            ),
            (
                Convention::SimpleItkContour,
                &itk["contour_recipe_full"]["mean_pooled"],
                mean,
            ),
            (
                Convention::SimpleItkContourFace,
                &itk["contour_recipe_face"]["hd"],
                hd,
            ),
            (
                Convention::SimpleItkContourFace,
                &itk["contour_recipe_face"]["hd95_pooled"],
                hd95,
            ),
            (
                Convention::SimpleItkContourFace,
                &itk["contour_recipe_face"]["mean_pooled"],
                mean,
            ),
        ];
        for (convention, expected, take) in values {
            // Libraries put numbers of their own in the place of what is undefined.
            let rule = convention.rule();
            if let (Ok(distances), Some(_)) = (pair.distances(rule), number(expected)) {
                let what = format!("{} {convention}", pair.name);
                // MONAI and SimpleITK work in f32.
                check(Some(take(&distances, rule)), expected, 1e-5, &what);
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "only {checked} values were compared");
}

/// The directed averages of surface-distance are weighted by area; ours is their mean.
#[test]
fn the_dual_grid_averages_by_area() {
    let Some(golden) = golden() else { return };
    let mut checked = 0;
    for pair in pairs(&golden) {
        let expected = &pair.values["surface_distance"];
        let directed = ["average_ref_to_pred", "average_pred_to_ref"];
        let directed = directed.map(|name| number(&expected[name]));
        let rule = Convention::SurfaceDistance.rule();
        if let (Ok(found), [Some(a), Some(b)]) = (pair.distances(rule), directed) {
            let average = found.average(MeanRule::MeanOfMeans);
            assert!(
                (average - (a + b) / 2.0).abs() < 1e-9,
                "{}: {average}",
                pair.name
            );
            for (name, points) in [
                ("n_surfels_pred", found.prediction_to_reference()),
                ("n_surfels_ref", found.reference_to_prediction()),
            ] {
                assert_eq!(expected[name], points.len(), "{} {name}", pair.name);
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} pairs were compared");
}

#[test]
fn cases_agree_with_the_measures() {
    let Some(golden) = golden() else { return };
    let settings = Settings {
        empty: EmptyPolicy::Exclude,
        nsd_tolerance_mm: 2.0,
        ..Settings::default()
    };
    for pair in pairs(&golden) {
        let Some(label) = pair.label else { continue };
        let case = evaluate_case(&pair.prediction, &pair.reference, label, &settings).unwrap();
        let own = &pair.values["own"]["face6"];
        for (found, expected) in [
            (case.dice, &pair.values["overlap"]["dice"]),
            (case.iou, &pair.values["overlap"]["jaccard"]),
            (case.precision, &pair.values["overlap"]["precision"]),
            (case.recall, &pair.values["overlap"]["sensitivity"]),
            (case.hd, &own["hd"]),
            (case.hd95, &own["hd95_max_directed"]),
            (case.assd, &own["assd_pooled"]),
            (case.masd, &own["masd"]),
            (case.rmsd, &own["rmsd_pooled"]),
            (case.nsd, &own["nsd"]["2.0"]),
        ] {
            check(found, expected, 1e-12, &pair.name);
        }
        let overlap = &pair.values["overlap"];
        let ml = |key: &str| number(&overlap[key]).unwrap() / 1000.0;
        let error = ml("volume_pred_mm3") - ml("volume_ref_mm3");
        assert!(
            (case.volume_error_ml.unwrap() - error).abs() < 1e-9,
            "{}",
            pair.name
        );
    }
}

#[test]
fn percentiles_equal_numpy() {
    let Some(golden) = golden() else { return };
    let statistics = json(golden.join("statistics.json"));
    let mut checked = 0;
    for (name, case) in statistics["percentiles"].as_object().unwrap() {
        let values = case["values"].as_array().unwrap();
        let values: Vec<f64> = values.iter().map(|v| v.as_f64().unwrap()).collect();
        for (q, expected) in case["percentiles"]["linear"].as_object().unwrap() {
            let found = percentile(&mut values.clone(), q.parse().unwrap()).unwrap();
            check(Some(found), expected, 1e-12, &format!("{name} {q}"));
            checked += 1;
        }
    }
    assert_eq!(checked, 45);
}
