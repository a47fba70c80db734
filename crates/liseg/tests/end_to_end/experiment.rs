//! A grid of runs becomes one table; what is done is not done again.

use crate::common::{command, liseg, path, stderr, stdout_json, write_dataset};
use liseg::engine::experiment::{Experiment, prepare};
use liseg::phantom::{PhantomConfig, Phase, Resolution, write_nnunet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

fn write_experiment(folder: &Path) -> std::path::PathBuf {
    let dataset = write_dataset(folder);
    let text = format!(
        "name = \"tiny\"\nlabel_budgets = [1, 2]\n\
         [datasets.target]\npath = {dataset:?}\nplan = {{ patch_size = [16, 32, 32] }}\n\
         [evaluate]\non = [\"test\", \"held-back\"]\nreplicates = 100\n\
         [run]\nprecision = \"f32\"\nnetwork.widths = [4, 4, 8, 8, 8, 8]\n\
         training = {{ epochs = 1, iterations_per_epoch = 2, learning_rate = 3e-3 }}\n\
         [[variants]]\nname = \"first\"\nrow = false\n\
         [[variants]]\nname = \"CPS\"\nafter = \"first\"\nset.strategy.name = \"cps\"\n\
         [[variants]]\nname = \"two stages\"\nafter = \"first\"\nset.strategy.name = \"cps\"\n\
         cascade = {{ margin_mm = 10.0 }}\n"
    );
    let file = folder.join("tiny.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_grid_becomes_a_table_and_is_not_run_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_experiment(folder.path());
    let out = folder.path().join("out");
    let run = |extra: &[&str]| {
        liseg(
            &[
                &["experiment", path(&file), "--out", path(&out), "--json"][..],
                extra,
            ]
            .concat(),
        )
    };
    let output = run(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout_json(&output);
    let rows = table["rows"].as_array().unwrap();
    let names: Vec<(&str, u64)> = rows
        .iter()
        .map(|row| {
            (
                row["method"].as_str().unwrap(),
                row["labels"].as_u64().unwrap(),
            )
        })
        .collect();
    let methods = [
        "supervised",
        "CPS",
        "supervised for two stages",
        "two stages",
    ];
    let expected = [1, 2].map(|labels| methods.map(|method| (method, labels)));
    assert_eq!(names, expected.concat());
    // Masks made otherwise are no reason to train again.
    let learnt = |id: &str| out.join(format!("runs/{id}/checkpoints")).is_dir();
    assert!(learnt("cps-labels1-seed1") && !learnt("two-stages-labels1-seed1"));
    assert!(out.join("runs/two-stages-labels1-seed1/masks").is_dir());
    // One test case, and two or one labelled ones whose labels were not learnt from.
    let counts: Vec<u64> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(counts, [3, 3, 3, 3, 2, 2, 2, 2]);
    assert_eq!(rows[1]["versus"]["control"], "supervised");
    assert!(rows[0]["versus"].is_null() && rows[1]["dice"]["mean"].is_number());
    for file in ["table.md", "table.csv", "table.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }

    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for part in ["results", "training", "comparison", "overlays"] {
        assert!(page.contains(&format!("<section id=\"{part}\">")), "{part}");
    }
    assert!(page.contains("CPS, labels: 2") && !page.contains("Not drawn"));

    let checkpoint = out.join("runs/cps-labels1-seed1/checkpoints/last.safetensors");
    let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let before = written(&checkpoint);
    let again = run(&[]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(stdout_json(&again), table);
    assert_eq!(
        written(&checkpoint),
        before,
        "a run that was done was done again"
    );

    // A folder may be moved, before everything in it was judged.
    let moved = folder.path().join("moved");
    std::fs::rename(&out, &moved).unwrap();
    std::fs::remove_file(moved.join("runs/cps-labels1-seed1/metrics.json")).unwrap();
    let arguments = ["experiment", path(&file), "--out", path(&moved), "--json"];
    let elsewhere = liseg(&arguments);
    assert!(elsewhere.status.success(), "{}", stderr(&elsewhere));
    assert_eq!(stdout_json(&elsewhere), table);
    std::fs::rename(&moved, &out).unwrap();

    // Other cases to judge on need no other training.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(", \"held-back\"", "")).unwrap();
    let fewer = run(&[]);
    assert!(fewer.status.success(), "{}", stderr(&fewer));
    let rows = stdout_json(&fewer)["rows"].as_array().unwrap().clone();
    assert!(rows.iter().all(|row| row["n"] == 1), "{rows:?}");
    assert_eq!(written(&checkpoint), before);

    // Other settings are not mixed with what is there.
    std::fs::write(&file, text.replace("3e-3", "4e-3")).unwrap();
    let other = run(&[]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        stderr(&other).contains("other settings"),
        "{}",
        stderr(&other)
    );
    // Nor is another plan of the same data.
    std::fs::write(&file, text.replace("[16, 32, 32]", "[16, 32, 48]")).unwrap();
    let other = stderr(&run(&[]));
    assert!(
        other.contains("[16, 32, 32]") && other.contains("[16, 32, 48]"),
        "{other}"
    );
}

/// What is wrong with the last run is said before the first one is trained.
#[test]
fn wrong_runs_are_told_before_any_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_experiment(folder.path());
    let text = std::fs::read_to_string(&file).unwrap();
    let out = folder.path().join("out");
    // A fold without unlabelled cases.
    let fold = r#"[{"train": ["case_0", "case_1", "case_2"], "val": [], "unlabelled": []}]"#;
    let all = folder.path().join("all.json");
    std::fs::write(&all, fold).unwrap();
    let without = text.replace("label_budgets = [1, 2]", "label_budgets = [3]");
    let without = without.replace("[run]", &format!("[run]\nvalidation.splits = {all:?}"));
    for (from, to, told) in [
        ("label_budgets = [1, 2]", "label_budgets = [1, 100]", "100"),
        (
            "name = \"first\"",
            "name = \"first\"\nset.network.widths = [4, 4]",
            "widths",
        ),
        (
            "on = [\"test\", \"held-back\"]",
            "phases = [\"T2WI\"]",
            "T2WI",
        ),
        (&text, &without, "learns from unlabelled cases"),
    ] {
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let output = liseg(&["experiment", path(&file), "--out", path(&out)]);
        assert!(
            !output.status.success() && stderr(&output).contains(told),
            "{}",
            stderr(&output)
        );
        assert!(!out.join("runs").exists(), "{told}");
    }
}

#[test]
fn runs_at_the_same_time_learn_what_they_learn_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_experiment(folder.path());
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "label_budgets = [1, 2]",
        "seeds = [1, 2, 3]\ncontrol = \"none\"",
    );
    std::fs::write(
        &file,
        text.split("[[variants]]\nname = \"two").next().unwrap(),
    )
    .unwrap();
    let [at_once, in_turn] = ["at-once", "in-turn"].map(|name| folder.path().join(name));
    let run = |out: &Path, jobs: &str| {
        let text = ["experiment", path(&file), "--out", path(out), "--json"];
        let mut command = command(&[&text[..], &["--jobs", jobs]].concat());
        // Makes jobs print more than which runs are done.
        let noisy = command.env("ONEDNN_VERBOSE", if jobs == "1" { "0" } else { "1" });
        let output = noisy.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout_json(&output)["rows"].as_array().unwrap().len(), 1);
        stderr(&output)
    };
    let said = run(&at_once, "2");
    for seed in 1..=3 {
        let line = format!("cps-seed{seed}: training");
        assert_eq!(said.matches(&line).count(), 1, "{said}");
    }
    assert!(
        said.contains("job 1: ") && said.contains("job 2: "),
        "{said}"
    );
    // The processes take the dataset as they find it.
    assert_eq!(said.matches("planning").count(), 1, "{said}");
    run(&in_turn, "1");
    let learnt = |out: &Path| {
        [1, 2, 3].map(|seed| {
            let run = out.join(format!("runs/cps-seed{seed}"));
            let report = std::fs::read_to_string(run.join("metrics.json")).unwrap();
            let weights = std::fs::read(run.join("checkpoints/last.safetensors")).unwrap();
            (report.replace(path(out), ""), weights)
        })
    };
    for ((report, weights), other) in learnt(&at_once).into_iter().zip(learnt(&in_turn)) {
        assert_eq!(report, other.0);
        assert!(weights == other.1, "weights differ");
    }
    // What goes wrong in a job is told with the run's name.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("3e-3", "4e-3")).unwrap();
    let output = liseg(&[
        "experiment",
        path(&file),
        "--out",
        path(&at_once),
        "--jobs",
        "2",
    ]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let line = message.lines().last().unwrap();
    assert!(
        line.contains("first-seed") && line.contains("learning_rate"),
        "{message}"
    );
}

#[test]
fn labels_of_phantoms_serve_where_the_target_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_experiment(folder.path());
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("[[variants]]").unwrap();
    let text = format!(
        "{}[datasets.drawn]\nphantom = {{ resolution = \"tiny\", patients = 2, labelled = 2, test_patients = 0, \
         labelled_phases = [\"T2WI\"], missing_phase_probability = 0.0 }}\nplan_of = \"target\"\n\
         [datasets.both]\nlabelled_from = [\"drawn\"]\nunlabelled_from = [\"target\"]\nplan_of = \"target\"\n\
         [[variants]]\nname = \"CPS\"\ndataset = \"both\"\nset.strategy.name = \"cps\"\n",
        before.replace("label_budgets = [1, 2]", "")
    );
    std::fs::write(&file, &text).unwrap();
    let out = folder.path().join("out");
    let output = liseg(&["experiment", path(&file), "--out", path(&out), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    // Judged on all cases of the target with a label: none of their labels was learnt from.
    let table = stdout_json(&output);
    let counts = table["rows"].as_array().unwrap().iter();
    let counts: Vec<u64> = counts.map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(counts, [4, 4]);
    let manifest = std::fs::read(out.join("runs/cps-seed1/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let learnt = manifest["training_cases"].as_array().unwrap();
    assert_eq!(learnt.len(), 2);
    assert!(
        learnt
            .iter()
            .all(|id| id.as_str().unwrap().ends_with("T2WI")),
        "{learnt:?}"
    );
    // A phantom that lies there is not taken for another one.
    std::fs::write(&file, text.replace("patients = 2", "patients = 3")).unwrap();
    let output = liseg(&["experiment", path(&file), "--out", path(&out)]);
    let message = stderr(&output);
    assert!(
        !output.status.success() && message.contains("another phantom"),
        "{message}"
    );
}

/// The protocol of a dataset decides whom its runs keep back, whatever their seed.
#[test]
fn data_are_parted_by_their_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let phantom = PhantomConfig::default()
        .with_patients(8, 4, 0)
        .with_resolution(Resolution::Tiny)
        .with_phases([Phase::Ged4, Phase::Dwi]);
    write_nnunet(&phantom, &data).unwrap();
    let text = format!(
        "name = \"parted\"\nseeds = [1, 2]\ncontrol = \"none\"\n\
         [datasets.target]\npath = {data:?}\npaper = true\nplan.patch_size = [16, 32, 32]\n\
         plan.spacing = [14.0, 6.6, 6.6]\n\
         split = {{ validation = 2, unlabelled = {{ A = 1, B1 = 2 }}, unlabelled_phases = [\"contrast\"] }}\n\
         [evaluate]\non = [\"held-back\"]\nphases = [\"contrast\"]\nreplicates = 100\n\
         [run]\nprecision = \"f32\"\nnetwork.widths = [4, 4, 8, 8, 8, 8]\nvalidation.folds = 4\n\
         training = {{ epochs = 1, iterations_per_epoch = 1, learning_rate = 3e-3 }}\n\
         [[variants]]\nname = \"CPS\"\nset.strategy.name = \"cps\"\n\
         paper = [{{ phase = \"GED4\", dice = 0.5, hd = 9.0 }}]\n\
         [[variants]]\nname = \"again\"\nset.strategy.name = \"cps\"\n\
         paper = [{{ phase = \"GED4\", dice = 0.5, hd = 9.0, pretrained = false }}]\n"
    );
    let file = folder.path().join("parted.toml");
    std::fs::write(&file, &text).unwrap();
    let out = folder.path().join("out");
    let run = || liseg(&["experiment", path(&file), "--out", path(&out), "--json"]);
    let output = run();
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout_json(&output);
    assert_eq!(table["rows"][0]["n"], 2);
    // A figure of pretrained networks is not shown beside one that is not.
    assert!(table["rows"][0]["paper"].is_null() && table["untrained"] == true);
    assert_eq!(table["rows"][1]["paper"], serde_json::json!([0.5, 9.0]));
    let roles = [1, 2].map(|seed| {
        let manifest = std::fs::read(out.join(format!("runs/cps-seed{seed}/manifest.json")));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
        ["training_cases", "validation_cases", "unlabelled_cases"].map(|role| {
            let ids = manifest[role].as_array().unwrap().iter();
            ids.map(|id| id.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
    });
    assert_eq!(roles[0], roles[1]);
    assert_eq!(roles[0].each_ref().map(Vec::len), [2, 2, 3]);
    assert!(
        roles[0].iter().flatten().all(|id| id.ends_with("GED4")),
        "{roles:?}"
    );

    // More patients than there are: said before anything is trained.
    std::fs::write(&file, text.replace("B1 = 2", "B1 = 90")).unwrap();
    let other = folder.path().join("other");
    let output = liseg(&["experiment", path(&file), "--out", path(&other)]);
    let message = stderr(&output);
    assert!(
        message.contains("datasets.target.split") && message.contains("90"),
        "{message}"
    );
    assert!(!other.join("runs").exists());
}

#[test]
fn a_job_ends_with_whoever_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_experiment(folder.path());
    let text = std::fs::read_to_string(&file).unwrap();
    let long = text.replace("iterations_per_epoch = 2", "iterations_per_epoch = 100000");
    std::fs::write(&file, long).unwrap();
    let out = folder.path().join("out");
    // Jobs find the datasets ready.
    prepare(&Experiment::read(&file).unwrap(), &out, &mut |_| {}).unwrap();
    let arguments = ["experiment", path(&file), "--out", path(&out), "--job"];
    let job = || {
        let mut command = command(&arguments);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        pipes.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut unknown = job();
    unknown.stdin.take().unwrap().write_all(b"none\n").unwrap();
    let output = unknown.wait_with_output().unwrap();
    assert!(stderr(&output).contains("no run is called `none`"));

    let mut job = job();
    let mut orders = job.stdin.take().unwrap();
    orders.write_all(b"first-seed1\n").unwrap();
    let begun = out.join("runs/first-seed1/manifest.json");
    while !begun.is_file() {
        assert!(job.try_wait().unwrap().is_none(), "ended before it began");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(orders);
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // It did not say that the run is done.
    assert!(output.stdout.is_empty());
}

#[test]
fn the_presets_lay_out_their_grids() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/experiments");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let output = liseg(&["experiment", path(&file), "--list", "--json"]);
        assert!(
            output.status.success(),
            "{}: {}",
            file.display(),
            stderr(&output)
        );
        let runs = stdout_json(&output);
        assert!(runs.as_array().unwrap().len() >= 6, "{}", file.display());
        seen += 1;
    }
    assert!(seen >= 5);
}

/// The paper's tables, each row of them, on a phantom that is smaller still and for a step.
#[test]
fn the_papers_tables_run_on_the_phantom() {
    let presets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/experiments");
    let folder = tempfile::tempdir().unwrap();
    let smaller = [
        ("seeds = [1, 2, 3]", "seeds = [1]"),
        ("patients = 24", "patients = 4"),
        ("patients = 12", "patients = 3"),
        ("labelled = 12", "labelled = 3"),
        ("folds = 6", "folds = 3"),
        ("test_patients = 4", "test_patients = 1"),
        ("test_patients = 8", "test_patients = 1"),
        ("epochs = 6", "epochs = 1"),
        ("iterations_per_epoch = 50", "iterations_per_epoch = 1"),
        ("patch_size = [16, 64, 64]", "patch_size = [16, 32, 32]"),
        ("[8, 16, 32, 64, 64, 64]", "[4, 4, 8, 8, 8, 8]"),
        ("[8, 16, 32, 64, 64]", "[4, 4, 8, 8]"),
        ("[evaluate]", "[evaluate]\nreplicates = 100"),
    ];
    for name in ["table2", "table3", "table4", "table5"] {
        let mut text = std::fs::read_to_string(presets.join(format!("{name}.toml"))).unwrap();
        text = text.replace("path = \"data/", "path = \"not-here/");
        // Coarse voxels for the target, whose plan the others take.
        let coarse = "phantom_plan = { spacing = [14.0, 6.6, 6.6] }\nphantom = {";
        text = text.replacen("phantom = {", coarse, 1);
        text = text.replace("phantom = {", "phantom = { resolution = \"tiny\",");
        for (from, to) in smaller {
            text = text.replace(from, to);
        }
        let file = folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, &text).unwrap();
        let out = folder.path().join(name);
        let output = liseg(&["experiment", path(&file), "--out", path(&out), "--json"]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let table = stdout_json(&output);
        assert_eq!(table["phantom"], true);
        let found = table["rows"].as_array().unwrap();
        let has_row = |variant: &str| {
            let name = variant.split('"').nth(1).unwrap();
            found.iter().any(|row| row["method"] == name)
        };
        for variant in text.split("[[variants]]\n").skip(1) {
            assert_eq!(
                has_row(variant),
                !variant.contains("row = false"),
                "{name}: {variant}"
            );
        }
        assert!(
            found
                .iter()
                .all(|row| row["dice"]["mean"].is_number() && row["paper"].is_null())
        );
    }
}

#[test]
fn mistakes_are_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let start = "name = \"w\"\ndatasets.target.path = \"nowhere\"\n";
    for (text, part) in [
        (
            "name = \"w\"\nvariants = []\ndatasets = {}\n".to_owned(),
            "at least one variant",
        ),
        (
            format!("{start}variants = [{{name = \"a\"}}]\ndatasets.b.labelled_from = [\"c\"]\n"),
            "datasets.b: no dataset `c`",
        ),
        (
            format!(
                "{start}variants = [{{name = \"a\"}}]\ndatasets.target.labelled_from = [\"c\"]\n"
            ),
            "in place of `path` and `phantom`",
        ),
        (
            format!("{start}variants = [{{name = \"a\", after = \"b\"}}]\n"),
            "no variant before it",
        ),
        (
            format!("{start}variants = [{{name = \"a\", set.seeds = 1}}]\n"),
            "variant `a`",
        ),
        (
            format!("{start}variants = [{{name = \"a\"}}]\nsede = 3\n"),
            "sede",
        ),
        (
            format!("{start}variants = [{{name = \"a\"}}]\n"),
            "is not there",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let out = folder.path().join("out");
        let output = liseg(&["experiment", path(&file), "--out", path(&out)]);
        assert!(!output.status.success());
        let message = stderr(&output);
        assert!(
            message.contains(part) && message.lines().count() == 1,
            "{message}"
        );
    }
}
