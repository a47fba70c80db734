//! Standard streams that take nothing, outputs that are no files, inputs that never end, and text that is more than text.

use crate::common::{
    command, liseg, path, preprocessed, stderr, stdout_json, write_config, write_dataset,
};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A device that is always full.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has left.
fn closed() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

fn fifo(at: &Path) {
    let made = std::process::Command::new("mkfifo").arg(at).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_reader_who_leaves_ends_the_command_in_silence() {
    for call in [&["completions", "bash"][..], &["schema", "run"]] {
        let output = command(call).stdout(closed()).output().unwrap();
        assert_eq!(stderr(&output), "");
        assert_eq!(output.status.code(), Some(141));
    }
}

#[test]
fn a_result_that_does_not_arrive_is_told() {
    let output = command(&["schema", "run"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("did not arrive") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_training_of_which_nobody_reads_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let train = |name: &str| {
        let run = folder.path().join(name);
        let command = command(&["train", path(&config), "--out", path(&run)]);
        (command, run.join("checkpoints/last.safetensors"))
    };
    let (mut to_nobody, last) = train("closed");
    let status = to_nobody.stdout(closed()).stderr(closed()).status();
    assert_eq!(status.unwrap().code(), Some(141));
    assert!(last.is_file());
    let (mut to_full_disk, last) = train("full");
    let status = to_full_disk.stdout(full()).stderr(full()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    assert!(last.is_file());
}

#[test]
fn outputs_that_are_links_and_devices_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let plan = |out: &Path| {
        let output = liseg(&["plan", path(&dataset), "--out", path(out)]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (link, target) = (
        folder.path().join("link"),
        folder.path().join("target.json"),
    );
    symlink("target.json", &link).unwrap();
    plan(&link);
    assert!(link.is_symlink());
    let written = std::fs::read_to_string(&target).unwrap();
    plan(Path::new("/dev/null"));
    assert!(!Path::new("/dev/null").is_file());
    let said = plan(Path::new("/dev/stdout"));
    assert!(said.starts_with(&written), "{said}");
}

#[test]
fn inputs_that_never_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = write_dataset(folder.path());
    fifo(&at("fifo"));
    for input in [at("fifo"), "/dev/zero".into()] {
        for call in [
            &["info"][..],
            &["train"],
            &["experiment"],
            &["weights", "inspect"],
            &[
                "preprocess",
                path(&dataset),
                "--out",
                path(&at("data")),
                "--plans",
            ],
        ] {
            let output = liseg(&[call, &[path(&input)]].concat());
            let text = stderr(&output);
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{call:?}: {text}"
            );
            assert!(
                text.contains(path(&input)) && text.contains("name a file"),
                "{text}"
            );
        }
    }
    // One among others.
    let image = dataset.join("imagesTr/case_1_0000.nii.gz");
    std::fs::remove_file(&image).unwrap();
    fifo(&image);
    let output = liseg(&["verify", path(&dataset), "--json"]);
    let found = stdout_json(&output);
    assert_eq!(found["errors"], 1, "{found}");
}

#[test]
fn codes_in_names_do_not_reach_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let description = dataset.join("dataset.json");
    let name = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d";
    let text = std::fs::read_to_string(&description).unwrap();
    let mut text: serde_json::Value = serde_json::from_str(&text).unwrap();
    text["name"] = name.into();
    std::fs::write(&description, text.to_string()).unwrap();
    let plans = folder.path().join("plans.json");
    let plan = ["plan", path(&dataset), "--out", path(&plans)];
    let output = liseg(&plan);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d"),
        "{shown}"
    );
    let output = liseg(&[&plan[..], &["--json"]].concat());
    assert_eq!(stdout_json(&output)["dataset_name"], name);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown}");
}

#[test]
fn an_error_is_a_line_of_bounded_length() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    let name = "y\u{1b}[31m\n".repeat(1_000_000);
    std::fs::write(&config, format!("[strategy]\nname = {name:?}\n")).unwrap();
    let output = liseg(&["train", path(&config)]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.len() < 20_000 && text.lines().count() == 1,
        "{}",
        text.len()
    );
    assert!(
        !text.contains('\u{1b}') && text.contains("left out"),
        "{text}"
    );
}

#[test]
fn events_are_shown_as_asked_and_warnings_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let first = folder.path().join("first");
    let output = liseg(&["train", path(&config), "--out", path(&first)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let weights = first.join("checkpoints/last.safetensors");
    let weights = format!("network.weights={}", path(&weights));
    let said = |number: usize, options: &[&str], variable: &str| {
        let run = folder.path().join(number.to_string());
        let call = [
            "train",
            path(&config),
            "--out",
            path(&run),
            "--set",
            &weights,
        ];
        let call = [&call[..], &["--set", "training.epochs=1"], options].concat();
        let output = command(&call).env("LISEG_LOG", variable).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let found = "matched";
    assert!(!said(0, &[], "").contains(found));
    assert!(said(1, &["-v"], "").contains(found));
    assert!(said(2, &["-q"], "liseg_engine=info").contains(found));
    assert_eq!(said(3, &["-q"], ""), "");
    let wrong = command(&["schema", "run"])
        .env("LISEG_LOG", "liseg_nn=loud")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("LISEG_LOG"), "{}", stderr(&wrong));
}
