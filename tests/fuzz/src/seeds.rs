//! Sound and known damaged inputs to begin with.

use crate::configs::{JSON_KINDS, TOML_KINDS};
use liseg_augment::AugmentConfig;
use liseg_metrics::{CaseMetrics, CaseResult, ComparisonSettings, MissingCase, Report, Settings};
use liseg_mri::normalize::{NormalizationTable, Nyul, NyulConfig};
use liseg_phantom::PhantomConfig;
use ndarray::Array3;
use std::path::{Path, PathBuf};

/// The inputs that a target begins with.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "nifti" => files(|name| !name.ends_with(".hdr") && !name.ends_with(".img")),
        "nifti_pair" => pairs(),
        "json" => json(),
        "toml" => toml(),
        "pytorch" => checkpoints(),
        "safetensors" => safetensors(),
        _ => Vec::new(),
    }
}

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/nifti");
    let mut paths: Vec<PathBuf> = ["valid", "malformed"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(root.join(folder)).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    paths
}

fn files(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let name = |path: &PathBuf| path.to_string_lossy().into_owned();
    let paths = corpus().into_iter().filter(|path| wanted(&name(path)));
    let contents = paths.filter_map(|path| std::fs::read(path).ok());
    // Large files make runs slow and show nothing more.
    contents.filter(|bytes| bytes.len() < 32 << 10).collect()
}

fn pairs() -> Vec<Vec<u8>> {
    let headers = corpus()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "hdr"));
    let pairs = headers.filter_map(|header| {
        let bytes = std::fs::read(&header).ok()?;
        let voxels = std::fs::read(header.with_extension("img")).unwrap_or_default();
        let length = u16::try_from(bytes.len()).ok()?;
        Some([&length.to_le_bytes(), &bytes[..], &voxels].concat())
    });
    pairs.collect()
}

/// Small checkpoints of every kind, which the tests of the reader compare number by number.
fn checkpoints() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/liseg-nn/tests/weights");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.sort();
    let weights = files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pth" || e == "pt"));
    weights
        .filter_map(|path| std::fs::read(path).ok())
        .collect()
}

fn safetensors() -> Vec<Vec<u8>> {
    let file = |header: &str, bytes: u8| {
        let length = (header.len() as u64).to_le_bytes();
        let numbers: Vec<u8> = (0..bytes).collect();
        [&length[..], header.as_bytes(), &numbers].concat()
    };
    vec![
        file("{}", 0),
        file(
            r#"{"__metadata__": {"architecture": "STU-Net-S", "iteration": "12"},
                "conv.weight": {"dtype": "F32", "shape": [2, 1, 1, 2, 3], "data_offsets": [0, 48]},
                "conv.bias": {"dtype": "BF16", "shape": [2], "data_offsets": [48, 52]},
                "empty": {"dtype": "I64", "shape": [0, 3], "data_offsets": [52, 52]},
                "step": {"dtype": "I64", "shape": [], "data_offsets": [52, 60]}}"#,
            60,
        ),
    ]
}

/// One input with the byte that says its kind in front.
fn kind(kind: u8, text: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind], text.as_ref()].concat()
}

fn json() -> Vec<Vec<u8>> {
    let text = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let mut seeds = vec![
        kind(0, text(serde_json::to_string(&Settings::default()))),
        kind(
            0,
            r#"{"convention": {"custom": {"points": {"boundary": "edge"}}}, "empty": {"value": 3}}"#,
        ),
        kind(
            1,
            text(serde_json::to_string(&ComparisonSettings::default())),
        ),
        kind(
            2,
            text(serde_json::to_string(&NormalizationTable::default())),
        ),
        kind(
            2,
            r#"{"default": [{"method": "z_score"}, {"method": "clip_percentiles", "lower": 1, "upper": 99}],
                "phases": {"GED4": [{"method": "min_max", "low": 0, "high": 1}]}}"#,
        ),
        kind(3, text(serde_json::to_string(&AugmentConfig::default()))),
        kind(4, text(serde_json::to_string(&PhantomConfig::default()))),
        kind(5, report().to_summary_json().to_string()),
        kind(8, dataset()),
        kind(
            8,
            [
                dataset(),
                r#"[{"id": "a", "patient": "p", "phase": "T2"}]"#.into(),
            ]
            .join("\0"),
        ),
    ];
    if let Some(standard) = standard() {
        seeds.push(kind(6, text(serde_json::to_string(&standard))));
    }
    seeds.push(kind(7, PLAN));
    debug_assert!(seeds.iter().all(|seed| seed[0] < JSON_KINDS));
    seeds
}

fn toml() -> Vec<Vec<u8>> {
    let text = |value: Result<String, ::toml::ser::Error>| value.unwrap_or_default();
    let seeds = vec![
        kind(0, text(::toml::to_string(&Settings::default()))),
        kind(1, text(::toml::to_string(&ComparisonSettings::default()))),
        kind(2, text(::toml::to_string(&AugmentConfig::default()))),
        kind(3, text(::toml::to_string(&PhantomConfig::default()))),
    ];
    debug_assert!(seeds.iter().all(|seed| seed[0] < TOML_KINDS));
    seeds
}

fn report() -> Report {
    let metrics = CaseMetrics {
        dice: Some(0.9),
        hd: Some(12.5),
        ..CaseMetrics::default()
    };
    let group = [("phase".to_owned(), "GED4".to_owned())];
    Report {
        settings: Settings::default(),
        cases: vec![CaseResult {
            prediction_file: "p/a.nii.gz".into(),
            reference_file: "r/a.nii.gz".into(),
            group: group.clone().into(),
            metrics: [("1".into(), metrics.clone())].into(),
        }],
        missing: vec![MissingCase {
            reference_file: "r/b.nii.gz".into(),
            reason: "no file".into(),
            group: group.into(),
            metrics: [("1".into(), metrics)].into(),
        }],
        notes: vec!["c.nii.gz has no reference".into()],
    }
}

fn standard() -> Option<Nyul> {
    let image = Array3::from_shape_fn((8, 9, 10), |(z, y, x)| ((z * y + 7 * x) % 97) as f32);
    Nyul::fit(NyulConfig::default(), [image.view()]).ok()
}

fn dataset() -> String {
    r#"{"name": "a", "channel_names": {"0": "T2"}, "labels": {"background": 0, "liver": 1},
        "numTraining": 1, "file_ending": ".nii.gz"}"#
        .into()
}

const PLAN: &str = r#"{"dataset_name": "a", "orientation": "RAS", "spacing": [3, 1.2, 1.2],
    "median_image_size_in_voxels": [60, 220.5, 260], "patch_size": [32, 96, 96], "batch_size": 2,
    "pool_op_kernel_sizes": [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "normalization_scheme": "zscore", "labels": {"background": 0, "liver": 1},
    "original_median_spacing": [3, 1.2, 1.2], "original_median_shape": [60, 220, 260]}"#;
