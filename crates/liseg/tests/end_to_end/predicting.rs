//! Predicting cohorts: killed and resumed, in little memory, by several networks, from one file.

use crate::common::{
    affine, command, liseg, path, preprocessed, scan, stderr, stdout_json, write_config,
};
use liseg::mri::nifti::{read_header, read_image, read_labels, write_image};
use liseg::nn::Precision;
use liseg::nn::tch::{Device, Kind};
use liseg::volume::Volume;
use ndarray::Array3;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A folder with a trained CPS run in `run`, shared by the tests of this file.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = preprocessed(folder.path());
        let config = write_config(folder.path(), &data, "cps");
        let run = folder.path().join("run");
        let arguments = ["train", path(&config), "--out", path(&run)];
        let output = liseg(&[&arguments[..], &["--set", "training.epochs=3"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    folder.path()
}

/// A folder of `count` images.
fn cohort(folder: &Path, count: u64) -> PathBuf {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).unwrap();
    for index in 0..count {
        let (image, _) = scan(index);
        write_image(
            images.join(format!("case_{index:02}_0000.nii.gz")),
            &image,
            None,
        )
        .unwrap();
    }
    images
}

/// Images of which two at once take some ten megabytes more than one.
fn large_cohort(folder: &Path, count: u64) -> PathBuf {
    let images = folder.join("large");
    std::fs::create_dir_all(&images).unwrap();
    for index in 0..count {
        let (small, _) = scan(index);
        let repeated = Array3::from_shape_fn([64, 112, 112], |(z, y, x)| {
            small.data()[[z % 16, y % 48, x % 48]]
        });
        let image = Volume::new(repeated, affine()).unwrap();
        write_image(
            images.join(format!("case_{index:02}_0000.nii.gz")),
            &image,
            None,
        )
        .unwrap();
    }
    images
}

fn masks(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|p| !p.file_name().unwrap().to_str().unwrap().starts_with('.'));
    found.sort();
    found
}

#[test]
fn a_killed_cohort_is_completed_by_resuming() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 12);
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let fixed = [
        "predict",
        "--run",
        path(&run),
        "--input",
        path(&images),
        "--tta",
        "mirror",
        "--force-tta",
    ];
    let arguments = |output| [&fixed[..], &["--output", output, "--json"]].concat();
    let output = liseg(&arguments(path(&whole)));
    assert!(output.status.success(), "{}", stderr(&output));

    // Killed three times, each time after further masks, and so at whatever point of one.
    let resuming = [&arguments(path(&killed))[..], &["--resume"]].concat();
    let mut left = Vec::new();
    for wanted in [2, 4, 6] {
        let mut process = command(&resuming).spawn().unwrap();
        let start = Instant::now();
        while masks(&killed).len() < wanted {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "no mask after two minutes"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        process.kill().unwrap(); // SIGKILL
        process.wait().unwrap();
        left = masks(&killed);
        assert!(left.len() < 12, "it was done before it was killed");
        for mask in &left {
            assert_eq!(read_labels(mask).unwrap().volume.shape(), [16, 48, 48]);
        }
    }

    let output = liseg(&resuming);
    assert!(output.status.success(), "{}", stderr(&output));
    let result = stdout_json(&output);
    assert_eq!(result["skipped"].as_array().unwrap().len(), left.len());
    let names = |folder: &Path| {
        masks(folder)
            .iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&killed), names(&whole));
    for (a, b) in masks(&killed).iter().zip(masks(&whole)) {
        assert_eq!(
            read_labels(a).unwrap().volume,
            read_labels(b).unwrap().volume
        );
    }
}

#[test]
fn memory_is_foretold_and_kept() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = large_cohort(folder.path(), 2);
    let predict = |output: &str, extra: &[&str]| {
        let fixed = [
            "predict",
            "--run",
            path(&run),
            "--input",
            path(&images),
            "--output",
            output,
        ];
        liseg(&[&fixed[..], &["--json", "--step", "1"], extra].concat())
    };
    let at = |name: &str| folder.path().join(name);
    let free = predict(path(&at("free")), &[]);
    assert!(
        stderr(&free).contains("memory: at most about"),
        "{}",
        stderr(&free)
    );
    let free = stdout_json(&free);
    assert_eq!(free["memory"]["together"], true);
    let foretold = free["memory"]["predicted_peak"].as_u64().unwrap();
    // Too little to do all at once, by more than two starts of the program differ; the masks are the same.
    let limit = format!("{}", foretold - 3_000_000);
    let tight = stdout_json(&predict(path(&at("tight")), &["--max-memory", &limit]));
    assert_eq!(tight["memory"]["together"], false);
    assert!(tight["memory"]["predicted_peak"].as_u64().unwrap() < foretold);
    for (a, b) in masks(&at("free")).iter().zip(masks(&at("tight"))) {
        assert_eq!(
            read_labels(a).unwrap().volume,
            read_labels(b).unwrap().volume
        );
    }
    // Other ways to predict, each in a process of its own.
    let other = |name: &str, extra: &[&str]| stdout_json(&predict(path(&at(name)), extra));
    let wide = other("wide", &["--precision", "f32", "--tta", "x", "--force-tta"]);
    let twice = ["--run", path(&run), "--uncertainty", "--probabilities"];
    // Emulated bf16 takes more than anyone can foretell, which is warned of.
    let native = Precision::Auto.kind(Device::Cpu) == Kind::BFloat16;
    let precision = if native { "bf16" } else { "f32" };
    let narrow = other(
        "narrow",
        &[&twice[..], &["--precision", precision]].concat(),
    );
    for result in [&free, &tight, &wide, &narrow] {
        let [foretold, held] = [&result["memory"]["predicted_peak"], &result["peak_memory"]];
        let ratio = foretold.as_f64().unwrap() / held.as_f64().unwrap();
        assert!(
            (ratio - 1.0).abs() < 0.2,
            "{ratio} of what was held was foretold: {result}"
        );
    }
    let little = ["--max-memory", "20MB", "--precision", "bf16"];
    let refused = predict(path(&at("none")), &little);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert_eq!(text.contains("only emulates bf16"), !native, "{text}");
    assert!(
        text.contains("--max-memory") && text.contains("at least"),
        "{text}"
    );
    assert!(masks(&at("none")).is_empty());
}

#[test]
fn a_bundle_predicts_anywhere_and_refuses_to_be_changed() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 1);
    let bundle = folder.path().join("model.liseg");
    let output = liseg(&["bundle", path(&run), "-o", path(&bundle), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout_json(&output)["members"], 1);
    let predict = |model: &Path, output: &Path| {
        let fixed = ["predict", "--model", path(model), "--input", path(&images)];
        liseg(&[&fixed[..], &["--output", path(output), "--json"]].concat())
    };
    let (by_run, by_bundle) = (folder.path().join("a"), folder.path().join("b"));
    assert!(predict(&run, &by_run).status.success());
    let output = predict(&bundle, &by_bundle);
    assert!(output.status.success(), "{}", stderr(&output));
    let mask = |folder: &Path| read_labels(folder.join("case_00.nii.gz")).unwrap().volume;
    assert_eq!(mask(&by_run), mask(&by_bundle));

    let bytes = std::fs::read(&bundle).unwrap();
    let digit = bytes.windows(8).position(|w| w == b"\"spacing").unwrap();
    let colour = bytes[digit..].iter().position(u8::is_ascii_digit).unwrap() + digit;
    for (place, what) in [(bytes.len() - 7, "weights"), (colour, "plan")] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        std::fs::write(&bundle, changed).unwrap();
        let output = predict(&bundle, &folder.path().join(what));
        assert_eq!(output.status.code(), Some(1), "{what}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("damaged"),
            "{what}: {}",
            stderr(&output)
        );
    }
    let check = liseg(&["bundle", "--check", path(&run)]);
    assert_eq!(check.status.code(), Some(2));
    assert!(stderr(&check).contains(".liseg file"), "{}", stderr(&check));
    std::fs::write(&bundle, "no bundle, but a text").unwrap();
    let text = predict(&bundle, &folder.path().join("text"));
    assert!(
        stderr(&text).contains("no safetensors file or bundle"),
        "{}",
        stderr(&text)
    );
    std::fs::write(&bundle, &bytes[..bytes.len() - 100]).unwrap();
    assert!(stderr(&predict(&bundle, &folder.path().join("cut"))).contains("model.liseg"));
}

#[test]
fn uncertainty_ensembles_and_crops() {
    let run = trained().join("run");
    let last = run.join("checkpoints/last.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 2);
    let out = folder.path().join("out");
    let arguments = [
        "predict",
        "--model",
        path(&run),
        "--model",
        path(&last),
        "--input",
        path(&images),
        "--output",
        path(&out),
        "--uncertainty",
        "--probabilities",
        "--tta",
        "x",
        "--json",
    ];
    let output = liseg(&arguments);
    // Training never mirrored.
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--force-tta"),
        "{}",
        stderr(&output)
    );
    let output = liseg(&[&arguments[..], &["--force-tta"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let map = |name: &str| {
        read_image(out.join(format!("case_01_{name}.nii.gz")))
            .unwrap()
            .volume
    };
    let (p, entropy, differ) = (map("probability_1"), map("entropy"), map("disagreement"));
    for ((p, e), d) in p.data().iter().zip(entropy.data()).zip(differ.data()) {
        let expected = [*p, 1.0 - p]
            .iter()
            .map(|&p| if p > 0.0 { -p * p.log2() } else { 0.0 })
            .sum::<f32>();
        assert!((e - expected).abs() < 1e-3, "entropy {e} of {p}");
        assert!((0.0..=1.0).contains(d));
    }
    assert!(
        differ.data().iter().any(|&d| d > 0.0),
        "the networks of CPS never differ"
    );
    let mask = read_labels(out.join("case_01.nii.gz")).unwrap().volume;
    for (p, label) in p.data().iter().zip(mask.data()) {
        assert!((*p > 0.5) == (*label == 1) || (p - 0.5).abs() < 1e-5);
    }
    let table = std::fs::read_to_string(out.join("uncertainty.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");

    // A crop to the liver leaves what is far from it out, and the rest nearly as it was.
    let cropped = folder.path().join("cropped");
    let output = liseg(&[
        "predict",
        "--model",
        path(&run),
        "--input",
        path(&images),
        "--output",
        path(&cropped),
        "--coarse-to-fine",
        "--margin",
        "5",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let image = read_header(images.join("case_00_0000.nii.gz")).unwrap();
    let header = read_header(cropped.join("case_00.nii.gz")).unwrap();
    assert_eq!(header.geometry(), image.geometry());
}

#[test]
fn no_image_and_no_foreign_file_is_overwritten() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 2);
    let image = |index: u64| images.join(format!("case_{index:02}_0000.nii.gz"));
    let predict = |rest: &[&str]| liseg(&[&["predict", "--run", path(&run)], rest].concat());
    let refused = |output: &std::process::Output, part: &str| {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(output).contains(part), "{}", stderr(output));
    };

    // Each image is called as the other's mask would be.
    let list = images.join("cases.json");
    let text = r#"[{"id": "case_01_0000", "image": "case_00_0000.nii.gz"},
                   {"id": "case_00_0000", "image": "case_01_0000.nii.gz"}]"#;
    std::fs::write(&list, text).unwrap();
    let before = [0, 1].map(|index| std::fs::read(image(index)).unwrap());
    let swapped = ["--input", path(&list), "--output", path(&images)];
    for options in [&[][..], &["--overwrite"], &["--part", "1/2"]] {
        let output = predict(&[&swapped[..], options].concat());
        refused(&output, "is an image to predict");
    }
    std::fs::remove_file(&list).unwrap();
    assert_eq!([0, 1].map(|i| std::fs::read(image(i)).unwrap()), before);

    // A label that lies where a mask would go.
    let labels = folder.path().join("labels");
    std::fs::create_dir(&labels).unwrap();
    let label = labels.join("case_01.nii.gz");
    std::fs::write(&label, b"drawn by hand").unwrap();
    let onto_labels = ["--input", path(&images), "--output", path(&labels)];
    refused(&predict(&onto_labels), "case_01.nii.gz: is there already");
    assert_eq!(std::fs::read(&label).unwrap(), b"drawn by hand");
    assert_eq!(masks(&labels), std::slice::from_ref(&label));
    let output = predict(&[&onto_labels[..], &["--overwrite"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(read_labels(&label).is_ok());
    assert_eq!(masks(&labels).len(), 2);
}

#[test]
fn resuming_makes_the_table_that_is_still_owed() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 2);
    let out = folder.path().join("out");
    let fixed = [
        "predict",
        "--run",
        path(&run),
        "--input",
        path(&images),
        "--output",
        path(&out),
    ];
    let predict = |rest: &[&str]| liseg(&[&fixed[..], rest].concat());
    assert!(predict(&["--uncertainty"]).status.success());
    let table = out.join("uncertainty.csv");
    let text = std::fs::read(&table).unwrap();
    std::fs::remove_file(&table).unwrap();
    let output = predict(&["--uncertainty", "--resume"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(&table).unwrap(), text);
    // A map that a mask lacks is not passed over in silence.
    std::fs::remove_file(out.join("case_00_entropy.nii.gz")).unwrap();
    let output = predict(&["--uncertainty", "--resume"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("case_00_entropy.nii.gz: is missing though the mask is there"),
        "{said}"
    );
    assert!(predict(&["--uncertainty", "--overwrite"]).status.success());
    assert!(out.join("case_00_entropy.nii.gz").is_file());
}

#[test]
fn whatever_is_passed_over_is_said_and_what_is_in_doubt_fails_by_itself() {
    let run = trained().join("run");
    let folder = tempfile::tempdir().unwrap();
    let images = cohort(folder.path(), 1);
    for file in [
        "twice.nii",
        "twice_0000.nii.gz",
        "scan.nrrd",
        "mask_GED4.nii.gz",
    ] {
        std::fs::write(images.join(file), b"").unwrap();
    }
    let out = folder.path().join("out");
    let output = liseg(&[
        "predict",
        "--run",
        path(&run),
        "--input",
        path(&images),
        "--output",
        path(&out),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in [
        "scan.nrrd is passed over: NRRD is not read here; convert it",
        "mask_GED4.nii.gz is passed over: masks",
        "would share the mask `twice`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(masks(&out), [out.join("case_00.nii.gz")]);
}
