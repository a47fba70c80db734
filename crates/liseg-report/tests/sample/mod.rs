//! A small study: ellipsoid livers in noise, two evaluations, two runs.

use liseg_metrics::{CaseResult, MissingCase, Report, Settings, evaluate_case, missing_case};
use liseg_mri::nifti;
use liseg_report::{EvaluationSpec, ReportSpec, RunSpec};
use liseg_volume::{Affine, LabelMap, Spacing, Volume};
use ndarray::Array3;
use std::path::Path;

/// Cases with their phase and vendor; the name of one of them is hostile.
pub(crate) const CASES: [(&str, &str, &str); 5] = [
    ("A-001_GED4", "GED4", "A"),
    ("A-002_T1WI", "T1WI", "A"),
    ("B1-003_GED4", "GED4", "B1"),
    ("B2-004_<script>alert(1)", "T2WI", "B2"),
    ("B2-005_DWI", "DWI_800", "B2"),
];

/// Noise from 0 to 1 that is the same everywhere.
fn noise(z: usize, y: usize, x: usize) -> f64 {
    let wave = (z as f64 * 12.9898 + y as f64 * 78.233 + x as f64 * 37.719).sin() * 43_758.545;
    wave - wave.floor()
}

fn affine() -> Affine {
    Affine::from_spacing(Spacing::new(5.0, 2.5, 2.5).unwrap())
}

/// An ellipsoid around (z, y, x) in voxels.
fn ellipsoid(centre: [f64; 3], radii: [f64; 3]) -> LabelMap {
    let data = Array3::from_shape_fn((32, 88, 112), |(z, y, x)| {
        let part = |i: usize, v: usize| ((v as f64 - centre[i]) / radii[i]).powi(2);
        u8::from(part(0, z) + part(1, y) + part(2, x) <= 1.0)
    });
    Volume::new(data, affine()).unwrap()
}

fn write_evaluation(
    folder: &Path,
    name: &str,
    error: f64,
    missing: Option<usize>,
) -> EvaluationSpec {
    let settings = Settings::default();
    let mut report = Report {
        settings,
        ..Report::default()
    };
    std::fs::create_dir_all(folder.join(name)).unwrap();
    for (index, (case, phase, vendor)) in CASES.into_iter().enumerate() {
        let i = index as f64;
        let reference = ellipsoid([16.0, 44.0, 70.0 - i], [9.0, 20.0 + i, 26.0 - i]);
        let reference_file = folder.join(format!("references/{case}.nii.gz"));
        nifti::write_labels(&reference_file, &reference, None).unwrap();
        let image = reference.map(|&label| f32::from(label) * 60.0 + 40.0);
        let body = ellipsoid([16.0, 44.0, 56.0], [60.0, 38.0, 52.0]);
        let mut data = image.into_data();
        for ((z, y, x), value) in data.indexed_iter_mut() {
            let tissue = f32::from(body.data()[[z, y, x]]) * *value;
            *value = tissue + 30.0 * noise(z, y, x) as f32;
        }
        let image = Volume::new(data, affine()).unwrap();
        nifti::write_image(
            folder.join(format!("images/{case}_0000.nii.gz")),
            &image,
            None,
        )
        .unwrap();
        let group = [("phase", phase), ("vendor", vendor)];
        let group = group
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
            .into();
        let reference_file = reference_file.display().to_string();
        if missing == Some(index) {
            let metrics = missing_case(&reference, 1, &settings).unwrap();
            let metrics = [("1".to_owned(), metrics)].into();
            let reason = "there is no such file & no other".to_owned();
            report.missing.push(MissingCase {
                reference_file,
                reason,
                group,
                metrics,
            });
            continue;
        }
        // The last case of the weaker evaluation finds nothing.
        let size = if missing.is_some() && index == 2 {
            -1.0
        } else {
            20.0 + i - error * i
        };
        let centre = [16.0, 44.0 + error * i, 70.0 - i];
        let prediction = if size < 0.0 {
            reference.map(|_| 0)
        } else {
            ellipsoid(centre, [9.0 - 0.3 * error, size, 26.0 - i])
        };
        // Relative to the folder of the metrics.
        let prediction_file = format!("{case}.nii.gz");
        let path = folder.join(name).join(&prediction_file);
        nifti::write_labels(path, &prediction, None).unwrap();
        let metrics = evaluate_case(&prediction, &reference, 1, &settings).unwrap();
        let metrics = [("1".to_owned(), metrics)].into();
        report.cases.push(CaseResult {
            prediction_file,
            reference_file,
            group,
            metrics,
        });
    }
    let metrics_file = folder.join(name).join("metrics.json");
    report.write_json(&metrics_file).unwrap();
    // As `liseg predict --uncertainty` leaves it beside the masks: doubt grows with the error.
    let mut scores = String::from("case,foreground_ml,entropy,disagreement\n");
    for case in &report.cases {
        let dice = case.metrics["1"].dice.unwrap_or(0.0);
        let stem = Path::new(&case.prediction_file)
            .file_name()
            .unwrap()
            .to_string_lossy();
        let stem = stem.trim_end_matches(".nii.gz");
        let doubt = 0.02 + 0.6 * (1.0 - dice);
        scores += &format!("{stem},1000.0,{:.4},{doubt:.4}\n", doubt / 3.0);
    }
    std::fs::write(folder.join(name).join("uncertainty.csv"), scores).unwrap();
    EvaluationSpec {
        name: name.to_owned(),
        metrics_file,
        images: vec![folder.join("images")],
    }
}

fn write_run(folder: &Path, name: &str, epochs: u32, floor: f64) -> RunSpec {
    let mut text = String::new();
    for epoch in 0..epochs {
        let (t, shake) = (f64::from(epoch) / 30.0, noise(epoch as usize, 3, 7) - 0.5);
        let falling = floor + 1.3 * (-t).exp() + 0.04 * shake;
        let terms = serde_json::json!({
            "loss": falling * 1.3, "supervised": falling, "pseudo": 0.3 * falling * t.tanh(),
        });
        let dice = 0.95 - floor - 0.7 * (-1.5 * t).exp() + 0.01 * shake;
        let validation = serde_json::json!({ "first": dice, "mean": dice + 0.008 });
        let validation = (epoch % 5 == 4).then_some(validation);
        let record = serde_json::json!({
            "epoch": epoch, "iteration": (epoch + 1) * 250, "learning_rate": 0.01, "terms": terms,
            "gradient_norm": 2.0, "seconds": 61.3, "data_wait": 0.04,
            "peak_memory": 7_300_000_000_u64, "peak_device_memory": 20_600_000_000_u64,
            "validation": validation,
        });
        text += &format!("{record}\n");
    }
    let metrics_file = folder.join(format!("{name}.jsonl"));
    std::fs::write(&metrics_file, text).unwrap();
    RunSpec {
        name: name.to_owned(),
        metrics_file,
    }
}

/// Writes the files of the study and returns what its report is made of.
pub(crate) fn study(folder: &Path) -> ReportSpec {
    for part in ["references", "images"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let facts = [
        ("Cases", "5 judged, 10 labelled, 40 unlabelled"),
        ("Device", "a GPU with 24 GiB"),
        ("Network", "STU-Net base, 58 M parameters"),
        ("Seed", "42"),
    ];
    ReportSpec {
        tables: Vec::new(),
        title: "Ten labelled livers, four phases".into(),
        summary: facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        runs: vec![
            write_run(folder, "supervised", 120, 0.09),
            write_run(folder, "cross-pseudo", 120, 0.03),
        ],
        evaluations: vec![
            write_evaluation(folder, "supervised", 1.8, Some(4)),
            write_evaluation(folder, "cross-pseudo", 0.6, None),
        ],
        worst_cases: 1,
    }
}
