//! The command from a dataset to measured masks.

use crate::common::{liseg, path, preprocessed, scan, stderr, stdout_json, write_config};
use liseg::mri::nifti::{read_header, read_labels, write_image};

#[test]
fn from_a_dataset_to_measured_masks() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let dataset = folder.path().join("Dataset007_Tiny");
    let config = write_config(folder.path(), &data, "cps");
    let run = folder.path().join("run");
    let longer = [
        "--set",
        "training.epochs=10",
        "--set",
        "training.learning_rate=1e-2",
    ];
    let mut arguments = vec!["train", path(&config), "--out", path(&run), "--json"];
    arguments.extend(longer);
    let output = liseg(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let result = stdout_json(&output);
    assert_eq!(result["last_epoch"]["epoch"], 9);
    assert!(result["last_epoch"]["terms"]["agreement"].as_f64().unwrap() > 0.0);
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 10);
    for file in [
        "config.toml",
        "manifest.json",
        "checkpoints/last.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }

    // Masks are named like their images and lie on their grids.
    let (masks, images) = (folder.path().join("masks"), dataset.join("imagesTs"));
    let predict = |extra: &[&str]| {
        let fixed = ["predict", "--run", path(&run), "--input", path(&images)];
        let more = ["--output", path(&masks), "--keep-largest", "--json"];
        liseg(&[&fixed[..], &more, extra].concat())
    };
    let output = predict(&["--probabilities"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mask = masks.join("case_5.nii.gz");
    let (found, image) = (
        read_header(&mask).unwrap(),
        read_header(images.join("case_5_0000.nii.gz")).unwrap(),
    );
    assert_eq!(found.geometry(), image.geometry());
    assert!(masks.join("case_5_probability_1.nii.gz").is_file());
    std::fs::remove_file(masks.join("case_5_probability_1.nii.gz")).unwrap();
    assert_eq!(
        stdout_json(&predict(&["--resume"]))["skipped"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let metrics = folder.path().join("metrics.json");
    let csv = folder.path().join("metrics.csv");
    let references = dataset.join("labelsTs");
    let output = liseg(&[
        "evaluate",
        "--predictions",
        path(&masks),
        "--references",
        path(&references),
        "--out",
        path(&metrics),
        "--csv",
        path(&csv),
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let dice = stdout_json(&output)["foreground_mean"]["Dice"]
        .as_f64()
        .unwrap();
    // An ellipsoid four standard deviations above its noise is not hard to learn.
    assert!(dice > 0.8, "Dice is {dice}");
    assert!(std::fs::read_to_string(&csv).unwrap().contains("case_5"));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&metrics).unwrap()).unwrap();
    assert_eq!(written["foreground_mean"]["Dice"], serde_json::json!(dice));
}

#[test]
fn a_missing_prediction_counts_as_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = crate::common::write_dataset(folder.path());
    let masks = folder.path().join("masks");
    std::fs::create_dir(&masks).unwrap();
    std::fs::copy(
        dataset.join("labelsTr/case_0.nii.gz"),
        masks.join("case_0.nii.gz"),
    )
    .unwrap();
    let references = dataset.join("labelsTr");
    let output = liseg(&[
        "evaluate",
        "--predictions",
        path(&masks),
        "--references",
        path(&references),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let summary = stdout_json(&output);
    assert_eq!(summary["missing"].as_array().unwrap().len(), 2);
    let dice = summary["foreground_mean"]["Dice"].as_f64().unwrap();
    assert!((dice - 1.0 / 3.0).abs() < 1e-12, "{dice}");
}

#[test]
fn info_says_what_scripts_rely_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.nii.gz");
    let (image, _) = scan(0);
    write_image(&file, &image, None).unwrap();
    let described = stdout_json(&liseg(&["info", path(&file), "--json"]));
    let first = &described[0];
    assert_eq!(first["shape"], serde_json::json!([48, 48, 16]));
    assert_eq!(first["spacing_mm"], serde_json::json!([3.0, 3.0, 5.0]));
    assert_eq!(first["orientation"], "LPS");
    assert_eq!(first["affine"][3], serde_json::json!([0.0, 0.0, 0.0, 1.0]));
    let sum: f64 = image.data().iter().map(|&v| f64::from(v)).sum();
    assert!((first["sum"].as_f64().unwrap() - sum).abs() < 1e-6 * sum);
}

#[test]
fn info_describes_files_of_several_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("series.nii");
    let (image, _) = scan(0);
    write_image(&file, &image, None).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    // dim[0] and dim[4] of a NIfTI-1 header; the second volume is the first one again.
    bytes[40] = 4;
    bytes[48] = 2;
    let voxels = bytes[352..].to_vec();
    bytes.extend(voxels);
    std::fs::write(&file, bytes).unwrap();
    let output = liseg(&["info", path(&file), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let described = &stdout_json(&output)[0];
    assert_eq!(described["shape"], serde_json::json!([48, 48, 16, 2]));
    assert_eq!(described["volumes"], 2);
    let warnings = described["warnings"].to_string();
    assert!(warnings.contains("2 volumes"), "{warnings}");
}

#[test]
fn one_bad_image_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let output = liseg(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "training.epochs=1",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let (image, _) = scan(1);
    write_image(images.join("b_good.nii.gz"), &image, None).unwrap();
    let bytes = std::fs::read(images.join("b_good.nii.gz")).unwrap();
    std::fs::write(images.join("a_cut.nii.gz"), &bytes[..bytes.len() / 2]).unwrap();
    let masks = folder.path().join("masks");
    let output = liseg(&[
        "predict",
        "--run",
        path(&run),
        "--input",
        path(&images),
        "--output",
        path(&masks),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a_cut.nii.gz"),
        "{}",
        stderr(&output)
    );
    assert!(read_labels(masks.join("b_good.nii.gz")).is_ok());
    assert!(!masks.join("a_cut.nii.gz").exists());
}

#[test]
fn trouble_ends_a_run_that_was_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "weak-to-strong");
    let run = folder.path().join("run");
    // Nothing is ever surer than certain.
    let output = liseg(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "strategy.threshold=1.0",
        "--set",
        "training.on_trouble=\"stop\"",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("sure of no voxel") && said.contains("epoch 2"),
        "{said}"
    );
    assert!(run.join("checkpoints/last.safetensors").is_file());
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
}
