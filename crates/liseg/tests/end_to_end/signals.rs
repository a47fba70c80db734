//! Signals let the work end cleanly, and two Ctrl-C at once.

use super::resume::{learnt, listening, start, train, wait_for_epochs};
use crate::common::{command, liseg, path, preprocessed, stderr, write_config};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

fn send(signal: &str, process: &Child) {
    let id = process.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status();
    assert!(sent.unwrap().success());
}

/// Starts a run of so many epochs that it is never done, sends signals after its first, and waits for its end.
fn interrupted(config: &Path, run: &Path, signals: &[&str]) -> ExitStatus {
    let _ = std::fs::remove_dir_all(run);
    let mut child = start(config, run, &["training.epochs=2000"]);
    wait_for_epochs(run, 1);
    for signal in signals {
        send(signal, &child);
    }
    child.wait().unwrap()
}

#[test]
fn each_saves_stops_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let straight = folder.path().join("straight");
    assert!(liseg(&train(&config, &straight, &[])).status.success());
    for signal in ["-INT", "-TERM", "-HUP"] {
        let run = folder.path().join(signal);
        let mut child = start(&config, &run, &[]);
        wait_for_epochs(&run, 1);
        send(signal, &child);
        let status = child.wait().unwrap();
        // It may have been past its last step already; else it says that it did not finish.
        assert!(matches!(status.code(), Some(0 | 1)), "{signal}: {status}");
        assert!(run.join("checkpoints/last.safetensors").is_file());
        let output = liseg(&[&train(&config, &run, &[])[..], &["--resume"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            learnt(&straight) == learnt(&run),
            "the weights differ after {signal}"
        );
    }
}

#[test]
fn the_exit_status_says_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "cps");
    let run = folder.path().join("run");
    // A terminal that closes sends SIGHUP twice, and Slurm SIGTERM.
    for signals in [
        &["-TERM"][..],
        &["-TERM", "-TERM"],
        &["-HUP", "-HUP"],
        &["-INT"],
    ] {
        let status = interrupted(&config, &run, signals);
        assert_eq!(status.code(), Some(1), "{signals:?}: {status}");
        assert!(run.join("checkpoints/last.safetensors").is_file());
    }
    let at_once = (0..5).map(|_| interrupted(&config, &run, &["-INT", "-INT"]));
    let codes: Vec<Option<i32>> = at_once.map(|status| status.code()).collect();
    // A step may end between the two, but not always; nothing else may happen.
    assert!(codes.contains(&Some(130)), "{codes:?}");
    assert!(
        codes.iter().all(|code| matches!(code, Some(1 | 130))),
        "{codes:?}"
    );
}

#[test]
fn what_is_ignored_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let call = command(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "training.epochs=2000",
    ]);
    let mut child = Command::new("nohup")
        .arg(call.get_program())
        .args(call.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_epochs(&run, 1);
    send("-HUP", &child);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    send("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let status = interrupted(&config, &run, &["-KILL"]);
    assert_eq!(status.code(), None);
    // A name as that process gave it, with the machine of this one: see `liseg_file`.
    let machine = {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let space = space
            .to_str()
            .unwrap()
            .replace(|c: char| !c.is_ascii_digit(), "");
        format!("{}-{space}", &boot[..8])
    };
    let left = run.join(format!("checkpoints/.liseg-{machine}.1.0.aBc123.tmp"));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("file"), "half a checkpoint").unwrap();
    let of_others = run.join("checkpoints/.liseg-0a1b2c3d-1.1.0.aBc123.tmp");
    std::fs::write(&of_others, "").unwrap();
    let settings = ["--set", "training.epochs=2000", "--resume"];
    let mut child = listening(&[&train(&config, &run, &[])[..], &settings].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let epochs = std::fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .count();
    wait_for_epochs(&run, epochs + 2);
    send("-INT", &child);
    child.wait().unwrap();
    assert!(!left.exists() && of_others.exists());
}
