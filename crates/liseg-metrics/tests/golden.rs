//! Parity with MedPy, MONAI, Metrics Reloaded and SimpleITK on stored pairs of masks.
//!
//! The files lie in the repository's `tests/fixtures/metrics`.

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

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/metrics")
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
    let golden = golden();
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
            ("f2", counts.f_beta(2.0)),
        ] {
            let what = format!("{} {name}", pair.name);
            check(value.ok(), &expected[name], 1e-12, &what);
        }
    }
}

#[test]
fn surface_distances_by_every_rule() {
    let golden = golden();
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
                ("hd_pred_to_ref", take(&|d| d.directed_hausdorff()[0])),
                ("hd_ref_to_pred", take(&|d| d.directed_hausdorff()[1])),
                ("asd_pred_to_ref", take(&|d| d.directed_averages()[0])),
                ("asd_ref_to_pred", take(&|d| d.directed_averages()[1])),
                (
                    "median_pooled",
                    take(&|d| {
                        d.hausdorff_percentile(50.0, PercentileRule::Pooled)
                            .unwrap()
                    }),
                ),
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
    assert!(checked > 4500, "only {checked} values were compared");
}

/// A measure taken from distances under a rule.
type Take = fn(&SurfaceDistances, SurfaceRule) -> f64;

fn hd95(d: &SurfaceDistances, rule: SurfaceRule) -> f64 {
    d.hausdorff_percentile(95.0, rule.percentile).unwrap()
}

/// Where a library's value is stored, the rule that should give it, and how it is taken. The
/// area-weighted median has a test of its own.
fn library_values() -> Vec<(String, SurfaceRule, Take)> {
    let hd: Take = |d, _| d.hausdorff();
    let mean: Take = |d, rule| d.average(rule.mean);
    let directed_hd: Take = |d, _| d.directed_hausdorff()[0];
    let there: Take = |d, _| d.directed_averages()[0];
    let back: Take = |d, _| d.directed_averages()[1];
    let with = |connectivity| SurfaceRule {
        points: Points::Boundary(connectivity),
        targets: Points::Boundary(connectivity),
        ..Convention::MedPy.rule()
    };
    let (medpy, monai) = (Convention::MedPy.rule(), Convention::Monai.rule());
    let reloaded = Convention::MetricsReloaded.rule();
    let full = Convention::SimpleItkContour.rule();
    let face = Convention::SimpleItkContourFace.rule();
    let filter = Convention::SimpleItkFilter.rule();
    let dual_grid = Convention::SurfaceDistance.rule();
    let mut values: Vec<(&str, SurfaceRule, Take)> = vec![
        ("medpy/hd", medpy, hd),
        ("medpy/hd95", medpy, hd95),
        ("medpy/assd", medpy, mean),
        ("medpy/asd_pred_to_ref", medpy, there),
        ("medpy/asd_ref_to_pred", medpy, back),
        (
            "medpy/assd_medpy_0_4_rule",
            Convention::MedPy04.rule(),
            mean,
        ),
        ("monai/hd", monai, hd),
        ("monai/hd95", monai, hd95),
        ("monai/assd", monai, mean),
        ("monai/hd_directed_pred_to_ref", monai, directed_hd),
        ("monai/asd_pred_to_ref", monai, there),
        ("metrics_reloaded/hd", reloaded, hd),
        ("metrics_reloaded/hd95", reloaded, hd95),
        ("metrics_reloaded/assd", reloaded, mean),
        ("metrics_reloaded/masd", reloaded, |d, _| {
            d.average(MeanRule::MeanOfMeans)
        }),
        ("simpleitk/hausdorff_filter/hd", filter, hd),
        ("simpleitk/hausdorff_filter/average_hd", filter, mean),
        ("simpleitk/contour_recipe_full/hd", full, hd),
        ("simpleitk/contour_recipe_full/hd95_pooled", full, hd95),
        ("simpleitk/contour_recipe_full/mean_pooled", full, mean),
        ("simpleitk/contour_recipe_face/hd", face, hd),
        ("simpleitk/contour_recipe_face/hd95_pooled", face, hd95),
        ("simpleitk/contour_recipe_face/mean_pooled", face, mean),
        ("seg_metrics/fully_connected_default/hd", full, hd),
        ("seg_metrics/fully_connected_default/hd95", full, hd95),
        ("seg_metrics/fully_connected_default/msd", full, mean),
        ("seg_metrics/face/hd", face, hd),
        ("seg_metrics/face/hd95", face, hd95),
        ("seg_metrics/face/msd", face, mean),
        ("surface_distance/robust_hd_100", dual_grid, hd),
        ("surface_distance/robust_hd_99", dual_grid, |d, rule| {
            d.hausdorff_percentile(99.0, rule.percentile).unwrap()
        }),
        ("surface_distance/robust_hd_95", dual_grid, hd95),
        ("surface_distance/average_pred_to_ref", dual_grid, there),
        ("surface_distance/average_ref_to_pred", dual_grid, back),
    ];
    let connectivities = [
        (
            [
                "medpy/hd_connectivity2",
                "medpy/hd95_connectivity2",
                "medpy/assd_connectivity2",
                "medpy/asd_pred_to_ref_connectivity2",
                "medpy/asd_ref_to_pred_connectivity2",
            ],
            with(Connectivity::Edge),
        ),
        (
            [
                "medpy/hd_connectivity3",
                "medpy/hd95_connectivity3",
                "medpy/assd_connectivity3",
                "medpy/asd_pred_to_ref_connectivity3",
                "medpy/asd_ref_to_pred_connectivity3",
            ],
            with(Connectivity::Vertex),
        ),
    ];
    for (places, rule) in connectivities {
        let takes = [hd, hd95, mean, there, back];
        values.extend(
            places
                .into_iter()
                .zip(takes)
                .map(|(p, take)| (p, rule, take)),
        );
    }
    let values = values.into_iter();
    values
        .map(|(place, rule, take)| (place.to_owned(), rule, take))
        .collect()
}

/// Compares where both sides have a value: libraries put numbers of their own in the place of what
/// is undefined. MONAI, SimpleITK and seg-metrics work in f32.
fn agrees(
    pair: &Pair,
    place: &str,
    rule: SurfaceRule,
    take: impl Fn(&SurfaceDistances) -> f64,
) -> bool {
    let at = format!("/{place}");
    let expected = pair.values.pointer(&at).unwrap_or(&Value::Null);
    match (pair.distances(rule), number(expected)) {
        (Ok(distances), Some(_)) => {
            let what = format!("{} {place}", pair.name);
            let single = ["monai", "simpleitk", "seg_metrics"];
            let single = single.iter().any(|name| place.starts_with(name));
            let tolerance = if single { 1e-5 } else { 1e-9 };
            check(Some(take(&distances)), expected, tolerance, &what);
            true
        }
        _ => false,
    }
}

#[test]
fn conventions_reproduce_their_libraries() {
    let golden = golden();
    let pairs = pairs(&golden);
    for (place, rule, take) in library_values() {
        let compared = pairs
            .iter()
            .filter(|pair| agrees(pair, &place, rule, |d| take(d, rule)));
        let compared = compared.count();
        assert!(
            compared > 40,
            "only {compared} values of {place} were compared"
        );
    }
}

/// Symmetric shapes have exactly half of their area within a distance, and the rounding of a sum then
/// decides between that distance and the next: the library's is one of those just below and above.
#[test]
fn the_area_weighted_median_is_that_of_surface_distance_but_for_rounding() {
    let golden = golden();
    let rule = Convention::SurfaceDistance.rule();
    let (mut decided, mut tied) = (0, 0);
    for pair in pairs(&golden) {
        let expected = number(&pair.values["surface_distance"]["robust_hd_50"]);
        let (Ok(distances), Some(expected)) = (pair.distances(rule), expected) else {
            continue;
        };
        let at = |q| distances.hausdorff_percentile(q, rule.percentile).unwrap();
        let (low, high) = (at(50.0 - 1e-9), at(50.0 + 1e-9));
        let near = |value: f64| (value - expected).abs() <= 1e-9;
        assert!(
            near(low) || near(high),
            "{}: {expected} is neither {low} nor {high}",
            pair.name
        );
        let is_decided = (high - low).abs() <= 1e-9;
        *(if is_decided { &mut decided } else { &mut tied }) += 1;
    }
    assert!(decided > 30, "{decided} medians decided, {tied} tied");
}

#[test]
fn surface_dice_reproduces_its_libraries_at_every_tolerance() {
    let golden = golden();
    let pairs = pairs(&golden);
    let (voxels, dual_grid) = (Convention::Monai.rule(), Convention::SurfaceDistance.rule());
    for tolerance in ["0.5", "1.0", "2.0", "3.0", "5.0", "10.0"] {
        let mm: f64 = tolerance.parse().unwrap();
        type Share = fn(&SurfaceDistances, f64) -> f64;
        let dice: Share = |d, mm| d.surface_dice(mm).unwrap();
        let shares: [(&str, SurfaceRule, Share); 6] = [
            ("monai/surface_dice_voxels", voxels, dice),
            ("monai/surface_dice_subvoxels", dual_grid, dice),
            ("metrics_reloaded/nsd", voxels, dice),
            ("surface_distance/surface_dice", dual_grid, dice),
            ("surface_distance/overlap_pred", dual_grid, |d, mm| {
                d.surface_overlap(mm).unwrap()[0]
            }),
            ("surface_distance/overlap_ref", dual_grid, |d, mm| {
                d.surface_overlap(mm).unwrap()[1]
            }),
        ];
        for (library, rule, share) in shares {
            let place = format!("{library}/{tolerance}");
            let compared = pairs
                .iter()
                .filter(|pair| agrees(pair, &place, rule, |d| share(d, mm)));
            let compared = compared.count();
            assert!(
                compared > 40,
                "only {compared} values of {place} were compared"
            );
        }
    }
}

#[test]
fn the_dual_grid_has_as_many_points_as_surface_distance() {
    let golden = golden();
    let mut checked = 0;
    for pair in pairs(&golden) {
        let expected = &pair.values["surface_distance"];
        let Ok(found) = pair.distances(Convention::SurfaceDistance.rule()) else {
            continue;
        };
        if expected.is_null() {
            continue; // the union of the labels was given to MedPy and MONAI alone
        }
        for (name, points) in [
            ("n_surfels_pred", found.prediction_to_reference()),
            ("n_surfels_ref", found.reference_to_prediction()),
        ] {
            assert_eq!(expected[name], points.len(), "{} {name}", pair.name);
        }
        checked += 1;
    }
    assert!(checked > 50, "only {checked} pairs were compared");
}

#[test]
fn cases_agree_with_the_measures() {
    let golden = golden();
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
    let golden = golden();
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
