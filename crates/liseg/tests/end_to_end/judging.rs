//! The verbs that look at data and at results: verify, phantom, compare, report.

use crate::common::{liseg, path, stderr, stdout_json};
use liseg::metrics::{CaseMetrics, CaseResult, Report};
use liseg::mri::nifti::write_labels;
use liseg::volume::Volume;
use std::path::{Path, PathBuf};

/// A metrics file with a Dice for each of some patients' T2WI and GED4 scans.
fn metrics(folder: &Path, name: &str, dice: [f64; 6]) -> PathBuf {
    let cases = dice.into_iter().enumerate().flat_map(|(patient, dice)| {
        ["T2WI", "GED4"].map(|phase| CaseResult {
            prediction_file: format!("{name}/p{patient}_{phase}.nii.gz"),
            reference_file: format!("labels/p{patient}_{phase}.nii.gz"),
            group: [
                ("patient".to_owned(), format!("p{patient}")),
                ("phase".to_owned(), phase.to_owned()),
            ]
            .into(),
            metrics: [(
                "1".to_owned(),
                CaseMetrics {
                    dice: Some(if phase == "T2WI" { dice } else { 0.9 }),
                    ..CaseMetrics::default()
                },
            )]
            .into(),
        })
    });
    let report = Report {
        cases: cases.collect(),
        ..Report::default()
    };
    let file = folder.join(format!("{name}.json"));
    report.write_json(&file).unwrap();
    file
}

#[test]
fn compare_pairs_patients_and_tells_groups_apart() {
    let folder = tempfile::tempdir().unwrap();
    let first = metrics(
        folder.path(),
        "supervised",
        [0.5, 0.6, 0.55, 0.7, 0.4, 0.65],
    );
    let second = metrics(folder.path(), "cps", [0.6, 0.7, 0.75, 0.8, 0.6, 0.85]);
    let out = folder.path().join("comparison.json");
    let compare = |extra: &[&str]| {
        let fixed = [
            "compare",
            path(&first),
            path(&second),
            "--measures",
            "dice",
            "--json",
        ];
        stdout_json(&liseg(&[&fixed[..], extra].concat()))
    };
    let all = compare(&["--out", path(&out)]);
    let pair = &all["pairs"][0];
    assert_eq!((&all["unit"], &pair["n"]), (&"patient".into(), &6.into()));
    // The mean of T2WI's gain and GED4's none.
    assert!((pair["mean"]["estimate"].as_f64().unwrap() - 0.075).abs() < 1e-9);
    assert_eq!(pair["p_holm"], 0.03125);
    assert_eq!(pair["second"], "cps");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(written, all);

    let t2 = compare(&["--only", "phase=T2WI"]);
    assert!((t2["pairs"][0]["mean"]["estimate"].as_f64().unwrap() - 0.15).abs() < 1e-9);
    let ged4 = compare(&["--only", "phase=GED4"]);
    assert_eq!(ged4["pairs"][0]["test"]["p"], 1.0);

    let table = liseg(&["compare", path(&first), path(&second), "--measures", "Dice"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("cps − supervised") && table.contains("6 patients"),
        "{table}"
    );

    // Seeds of one method are averaged: half of the difference to itself.
    let named = |name: &str, file: &Path| format!("{name}={}", path(file));
    let seeds = [
        named("plain", &first),
        named("both", &first),
        named("both", &second),
    ];
    let arguments = ["compare", &seeds[0], &seeds[1], &seeds[2], "--json"];
    let pair = &stdout_json(&liseg(&arguments))["pairs"][0];
    assert_eq!(pair["second"], "both");
    assert!((pair["mean"]["estimate"].as_f64().unwrap() - 0.0375).abs() < 1e-9);

    for (wrong, code, part) in [
        (vec!["compare", path(&first), path(&first)], 2, "NAME=PATH"),
        (vec!["compare", &seeds[1], &seeds[2]], 2, "another one"),
        (vec!["compare", path(&first)], 2, "METRICS"),
        (
            vec!["compare", path(&first), path(&second), "--measures", "dize"],
            2,
            "expected one of",
        ),
        (
            vec![
                "compare",
                path(&first),
                path(&second),
                "--only",
                "phase=DWI",
            ],
            2,
            "no case with phase=DWI; there are GED4, T2WI",
        ),
        (
            vec!["compare", path(&first), path(&second), "--only", "site=A"],
            2,
            "the kinds of groups are patient, phase",
        ),
        (
            vec!["compare", path(&first), path(&second), "--level", "95"],
            2,
            "0.95",
        ),
        (vec!["compare", path(&first), "no.json"], 1, "no.json"),
    ] {
        let output = liseg(&wrong);
        assert_eq!(output.status.code(), Some(code), "{wrong:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn a_phantom_passes_verification_and_a_damaged_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = folder.path().join("phantom");
    let make = [
        "phantom",
        "--patients",
        "2",
        "--labelled",
        "1",
        "--test",
        "1",
        "--resolution",
        "tiny",
        "--json",
    ];
    let output = liseg(&[&make[..], &["--out", path(&dataset)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout_json(&output)["labelled"], 1);

    let verify = || liseg(&["verify", path(&dataset), "--json"]);
    let clean = verify();
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
    assert_eq!(stdout_json(&clean)["errors"], 0);

    // Two cases are damaged; both are told at once.
    let files = |part: &str| {
        let files = std::fs::read_dir(dataset.join(part)).unwrap();
        let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
        files.sort();
        files
    };
    let (image, label) = (files("imagesUn").remove(0), files("labelsTr").remove(0));
    let whole = std::fs::read(&image).unwrap();
    std::fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&label, b"no gzip").unwrap();
    let damaged = verify();
    assert_eq!(damaged.status.code(), Some(1));
    let told = stdout_json(&damaged);
    assert_eq!(told["errors"], 2, "{told}");
    let text = liseg(&["verify", path(&dataset)]);
    let text = String::from_utf8(text.stdout).unwrap();
    for file in [&image, &label] {
        assert!(text.contains(path(file)), "{text}");
    }
}

/// Every verb has one idea of when a mask lies on the grid of its image.
#[test]
fn what_verify_accepts_is_planned_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = crate::common::write_dataset(folder.path());
    let (_, mask) = crate::common::scan(1);
    let original = folder.path().join("original");
    std::fs::create_dir(&original).unwrap();
    let original_file = original.join("case_1.nii.gz");
    write_labels(&original_file, &mask, None).unwrap();
    let predictions = folder.path().join("predictions");
    std::fs::create_dir(&predictions).unwrap();
    let plan = folder.path().join("plans.json");
    // 3 mm voxels: 0.09 mm and 0.12 mm.
    for (share, code) in [(0.03, 0), (0.04, 1)] {
        let moved = mask.affine().shifted([0.0, share, 0.0]);
        let moved = Volume::new(mask.data().to_owned(), moved).unwrap();
        write_labels(dataset.join("labelsTr/case_1.nii.gz"), &moved, None).unwrap();
        write_labels(predictions.join("case_1.nii.gz"), &moved, None).unwrap();
        let data = path(&dataset);
        let calls: [&[&str]; 3] = [
            &["verify", data],
            &["plan", data, "--out", path(&plan)],
            &[
                "evaluate",
                "--predictions",
                path(&predictions),
                "--references",
                path(&original),
            ],
        ];
        for call in calls {
            let output = liseg(call);
            let shown = format!(
                "{call:?} at {share}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                stderr(&output)
            );
            assert_eq!(output.status.code(), Some(code), "{shown}");
            assert!(code == 0 || shown.contains("0.120 mm"), "{shown}");
        }
    }
}

#[test]
fn verify_writes_a_repaired_copy_and_leaves_the_dataset_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = crate::common::write_dataset(folder.path());
    let image = dataset.join("imagesUn/case_3_0000.nii.gz");
    let plain = dataset.join("imagesTs/case_5_0000.nii.gz");
    // A NaN in one image; in another a header whose bits per voxel and slope are wrong.
    let mut damaged = liseg::mri::nifti::read_image(&image).unwrap();
    damaged.volume.data_mut()[[3, 4, 5]] = f32::NAN;
    liseg::mri::nifti::write_image(&image, &damaged.volume, Some(&damaged.header)).unwrap();
    let raw = folder.path().join("plain.nii");
    let sound = liseg::mri::nifti::read_image(&plain).unwrap();
    liseg::mri::nifti::write_image(&raw, &sound.volume, None).unwrap();
    let mut bytes = std::fs::read(&raw).unwrap();
    bytes[72..74].copy_from_slice(&17i16.to_le_bytes());
    std::fs::write(&plain, &bytes).unwrap(); // compression is told by content
    let before = std::fs::read(&image).unwrap();

    let copy = folder.path().join("copy");
    let fix = |copy: &Path| liseg(&["verify", path(&dataset), "--fix", path(copy), "--json"]);
    let output = fix(&copy);
    let told = stdout_json(&output);
    assert_eq!(output.status.code(), Some(0), "{told} {}", stderr(&output));
    let mended: Vec<_> = told["repaired"].as_array().unwrap().iter().collect();
    let mended: Vec<_> = mended
        .iter()
        .filter(|f| f["mended"] != serde_json::json!([]))
        .collect();
    assert_eq!(mended.len(), 2, "{told}");
    assert_eq!(
        std::fs::read(&image).unwrap(),
        before,
        "the source is as it was"
    );
    let repaired = liseg::mri::nifti::read_image(copy.join("imagesUn/case_3_0000.nii.gz")).unwrap();
    assert!(repaired.volume.data()[[3, 4, 5]].abs() < 1e-9);
    assert!(liseg(&["verify", path(&copy)]).status.success());

    // Neither over something nor into the dataset.
    for wrong in [copy, dataset.join("fixed")] {
        let output = fix(&wrong);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("--fix"), "{}", stderr(&output));
    }
    assert!(!dataset.join("fixed").exists());
}

#[test]
fn empty_masks_count_as_the_caller_says() {
    let folder = tempfile::tempdir().unwrap();
    let [predictions, references] = ["predictions", "references"].map(|name| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    });
    let (_, mask) = crate::common::scan(0);
    let none = mask.map(|_| 0u8);
    let write = |folder: &Path, name: &str, mask: &liseg::volume::Volume<u8>| {
        write_labels(folder.join(name), mask, None).unwrap();
    };
    write(&references, "a.nii.gz", &mask);
    write(&predictions, "a.nii.gz", &none);
    write(&references, "b.nii.gz", &none);
    write(&predictions, "b.nii.gz", &none);
    let evaluate = |policy: &str| {
        let folders = [
            "--predictions",
            path(&predictions),
            "--references",
            path(&references),
        ];
        liseg(&[&["evaluate", "--json", "--empty", policy][..], &folders].concat())
    };
    // A case that fails does not end the others.
    let failed = evaluate("worst");
    assert_eq!(failed.status.code(), Some(1));
    let report = stdout_json(&failed);
    assert_eq!(report["metric_per_case"].as_array().unwrap().len(), 2);
    let reason = report["missing"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("b.nii.gz") && reason.contains("exclude"),
        "{reason}"
    );
    assert_eq!(report["mean"]["1"]["Dice"], 0.0);
    let dice = |policy: &str| stdout_json(&evaluate(policy))["mean"]["1"]["Dice"].clone();
    assert_eq!(dice("both-empty-is-perfect"), 0.5);
    assert_eq!(dice("exclude"), 0.0);
    assert_eq!(stdout_json(&evaluate("100"))["mean"]["1"]["HD"], 100.0);
    assert_eq!(evaluate("perfect").status.code(), Some(2));
    assert_eq!(evaluate("-1").status.code(), Some(2));
}

#[test]
fn mistakes_say_how_sure_a_network_is_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let [maps, others, references] = ["maps", "others", "references"].map(|name| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    });
    let (_, mask) = crate::common::scan(0);
    let liver = mask.data().iter().filter(|&&v| v == 1).count() as f64;
    for case in ["a", "b", "c"] {
        let file = references.join(format!("{case}.nii.gz"));
        write_labels(file, &mask, None).unwrap();
    }
    // All of the liver is missed, surely in `a` alone; the other network has all of it right in `b`.
    let write = |folder: &Path, case: &str, liver: f32| {
        let map = mask.map(|&v| if v == 1 { liver } else { 0.01 });
        let file = folder.join(format!("{case}_probability_1.nii.gz"));
        liseg::mri::nifti::write_image(file, &map, None).unwrap();
    };
    write(&maps, "a", 0.02);
    write(&maps, "b", 0.4);
    write(&others, "a", 0.3);
    write(&others, "b", 0.9);
    let run = |more: &[&str]| {
        let folders = [
            "mistakes",
            "--probabilities",
            path(&maps),
            "--references",
            path(&references),
        ];
        liseg(&[&folders[..], more].concat())
    };
    let found = run(&["--json", "--others", &format!("second={}", path(&others))]);
    assert_eq!(found.status.code(), Some(1), "{}", stderr(&found));
    let found = stdout_json(&found);
    assert_eq!(found["all"]["false_negative"], 2.0 * liver);
    assert_eq!(found["all"]["sure_false_negative"], liver);
    assert_eq!(found["all"]["false_positive"], 0);
    assert_eq!(found["all"]["shared"][0], liver);
    assert_eq!(found["cases"][1]["sure_false_negative"], 0);
    assert!(
        found["missing"]["c"]
            .as_str()
            .unwrap()
            .contains("c_probability_1")
    );

    let shown = run(&["--threshold", "0.5"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("missing: c:") && shown.contains("100.0 %"),
        "{shown}"
    );
    assert_eq!(run(&["--threshold", "1.5"]).status.code(), Some(2));
    let moved = mask.affine().shifted([0.0, 4.0, 0.0]);
    let elsewhere = mask.map(|&v| f32::from(v)).into_data();
    let elsewhere = Volume::new(elsewhere, moved).unwrap();
    let file = maps.join("c_probability_1.nii.gz");
    liseg::mri::nifti::write_image(&file, &elsewhere, None).unwrap();
    let shown = String::from_utf8(run(&[]).stdout).unwrap();
    assert!(
        shown.contains(&format!("missing: c: {}", path(&file))),
        "{shown}"
    );
    assert!(shown.contains(" 12.000 mm apart"), "{shown}");
    let none = run(&["--label", "2"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("a_probability_2"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn a_report_shows_what_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let first = metrics(folder.path(), "supervised", [0.5; 6]);
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let out = folder.path().join("report");
    let report = |source: &str| {
        let evaluation = format!("few labels={}", path(&first));
        liseg(&[
            "report",
            source,
            &evaluation,
            "--out",
            path(&out),
            "--title",
            "Ten livers",
        ])
    };
    let images = |images: &str| {
        let out = folder.path().join("pictures");
        liseg(&[
            "report",
            path(&first),
            "--out",
            path(&out),
            "--images",
            images,
        ])
    };
    assert_eq!(images("/no/such/folder").status.code(), Some(2));
    let without = images(path(&run));
    assert!(without.status.success());
    assert!(
        stderr(&without).contains("no picture"),
        "{}",
        stderr(&without)
    );
    let refused = report(path(&run));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("metrics.jsonl"),
        "{}",
        stderr(&refused)
    );

    let epoch = r#"{"epoch": 0, "terms": {"supervised": 0.5}}"#;
    std::fs::write(run.join("metrics.jsonl"), epoch).unwrap();
    let output = report(path(&run));
    assert!(output.status.success(), "{}", stderr(&output));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for part in ["Ten livers", "few labels", "run"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(out.join("cases.csv").is_file());
}

#[test]
fn evaluate_judges_every_reference_and_says_what_is_odd() {
    let folder = tempfile::tempdir().unwrap();
    let [predictions, references] = ["predictions", "references"].map(|name| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    });
    let (_, mask) = crate::common::scan(0);
    let write = |folder: &Path, name: &str, mask: &liseg::volume::Volume<u8>| {
        write_labels(folder.join(name), mask, None).unwrap();
    };
    for name in ["other_axes.nii.gz", "surplus.nii.gz", "broken.nii.gz"] {
        write(&references, name, &mask);
        write(&predictions, name, &mask);
    }
    let other_axes = liseg::volume::Orientation::RAS;
    let other_axes = if mask.orientation() == other_axes {
        "ASL".parse().unwrap()
    } else {
        other_axes
    };
    write(
        &predictions,
        "other_axes.nii.gz",
        &mask.reorient(other_axes),
    );
    write(
        &predictions,
        "surplus.nii.gz",
        &mask.map(|label| label * 255),
    );
    write(&predictions, "stray.nii.gz", &mask);
    // Another spelling serves where it is nobody else's, and folders below count.
    std::fs::create_dir(references.join("vendor_a")).unwrap();
    for name in [
        "Twice.nii.gz",
        "twice.nii.gz",
        "vendor_a/below.nii.gz",
        "Spelt.nii.gz",
    ] {
        write(&references, name, &mask);
    }
    for name in ["twice.nii.gz", "spelt.nii.gz"] {
        write(&predictions, name, &mask);
    }
    std::fs::write(references.join("broken.nii.gz"), b"x").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/nowhere/a.nii.gz", references.join("dangling.nii.gz")).unwrap();
    let output = liseg(&[
        "evaluate",
        "--json",
        "--predictions",
        path(&predictions),
        "--references",
        path(&references),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let report = stdout_json(&output);
    let dice: Vec<f64> = report["metric_per_case"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|case| case["metrics"]["1"]["Dice"].as_f64())
        .collect();
    // Those without a prediction count as missed.
    assert_eq!(dice, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    let missing = report["missing"].to_string();
    for case in ["Twice", "vendor_a/below"] {
        assert!(missing.contains(case), "{case}: {missing}");
    }
    assert!(missing.contains("broken.nii.gz"), "{missing}");
    assert_eq!(missing.contains("dangling"), cfg!(unix), "{missing}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("stray"), "{notes}");
    assert!(notes.contains("surplus.nii.gz: holds label 255"), "{notes}");

    let file = references.join("surplus.nii.gz");
    let output = liseg(&[
        "evaluate",
        "--predictions",
        path(&predictions),
        "--references",
        path(&file),
    ]);
    assert!(stderr(&output).contains("is a file; expected a folder"));
}
