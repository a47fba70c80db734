//! A run that was interrupted and resumed is the run that never was.

use crate::common::{command, liseg, path, preprocessed, stderr, write_config};
use liseg::nn::tch::Device;
use liseg::nn::{Precision, checkpoint, runtime};
use liseg::ssl::StrategyConfig;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Everything a run learnt: weights, moments, steps; byte for byte.
pub(super) fn learnt(run: &Path) -> Vec<(String, Vec<u8>)> {
    tensors(&run.join("checkpoints/last.safetensors"))
}

fn tensors(file: &Path) -> Vec<(String, Vec<u8>)> {
    let (tensors, _) = checkpoint::read(file).unwrap();
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.copy_data_u8(&mut bytes, tensor.numel());
            (name, bytes)
        })
        .collect()
}

pub(super) fn train<'a>(config: &'a Path, run: &'a Path, settings: &[&'a str]) -> Vec<&'a str> {
    let shorter = ["training.epochs=3", "training.iterations_per_epoch=2"];
    let settings = shorter.iter().chain(settings);
    let settings = settings.flat_map(|setting| ["--set", setting]);
    let mut arguments = vec!["train", path(config), "--out", path(run)];
    arguments.extend(settings);
    arguments
}

/// The command with signals as they usually are: tests that run in the background of a shell ignore Ctrl-C, and what they
/// start would, too.
pub(super) fn listening(arguments: &[&str]) -> Command {
    let call = command(arguments);
    if !cfg!(target_os = "linux") {
        return call;
    }
    let mut listening = Command::new("env");
    listening
        .arg("--default-signal=INT,TERM,HUP")
        .arg(call.get_program())
        .args(call.get_args());
    listening
}

pub(super) fn start(config: &Path, run: &Path, settings: &[&str]) -> Child {
    listening(&train(config, run, settings))
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until `count` epochs are recorded.
pub(super) fn wait_for_epochs(run: &Path, count: usize) {
    let start = Instant::now();
    let lines = || {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        text.lines().count()
    };
    while lines() < count {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no epoch after two minutes"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run that goes through is the same as one that was killed.
fn check_killed(folder: &Path, (strategy, settings): (&str, &[&str])) {
    let what = format!("{strategy} {settings:?}");
    let config = write_config(folder, &folder.join("data"), strategy);
    let (straight, killed) = (folder.join("straight"), folder.join("killed"));
    let _ = std::fs::remove_dir_all(&straight);
    let output = liseg(&train(&config, &straight, settings));
    assert!(output.status.success(), "{what}: {}", stderr(&output));
    assert!(
        (0..5).any(|_| is_killed_after_two_epochs(&config, &killed, settings)),
        "{what}: it was always done before it could be killed"
    );
    let resuming = [&train(&config, &killed, settings)[..], &["--resume"]].concat();
    let output = liseg(&resuming);
    assert!(output.status.success(), "{what}: {}", stderr(&output));
    assert!(
        learnt(&straight) == learnt(&killed),
        "{what}: the weights differ after a kill"
    );
    let best = |run: &Path| run.join("checkpoints/best.safetensors");
    assert_eq!(best(&straight).is_file(), best(&killed).is_file(), "{what}");
    if best(&straight).is_file() {
        let (a, b) = (tensors(&best(&straight)), tensors(&best(&killed)));
        assert!(a == b, "{what}: the best weights differ after a kill");
    }
    assert_eq!(epochs(&killed), [0, 1, 2], "{what}");
}

fn epochs(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(serde_json::from_str::<serde_json::Value>);
    records
        .map(|record| record.unwrap()["epoch"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    preprocessed(folder.path());
    for strategy in StrategyConfig::NAMES {
        check_killed(folder.path(), (strategy, &[]));
    }
}

#[test]
fn so_does_one_with_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    preprocessed(folder.path());
    // Emulated, bf16 takes minutes.
    let narrow = match Precision::Bf16.is_emulated(Device::Cpu) {
        true => "precision=f32",
        false => "precision=bf16",
    };
    let variants: [(&str, &[&str]); 3] = [
        (
            "cps",
            &[
                "strategy.cutmix=true",
                "strategy.apply_to=unlabelled",
                "validation.folds=3",
                "validation.every=1",
            ],
        ),
        (
            "mean-teacher",
            &["validation.folds=3", "validation.every=2"],
        ),
        ("cps", &["strategy.views=per-network", narrow]),
    ];
    for variant in variants {
        check_killed(folder.path(), variant);
    }
}

/// Starts a run anew and kills it between two epochs, at whatever point: a record may be there without its
/// checkpoint. False when the run was quicker.
fn is_killed_after_two_epochs(config: &Path, run: &Path, settings: &[&str]) -> bool {
    let _ = std::fs::remove_dir_all(run);
    let mut child = start(config, run, settings);
    wait_for_epochs(run, 2);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    // Killed, and not ended: there is no exit status.
    status.code().is_none()
}

#[test]
fn the_number_of_loader_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    for strategy in StrategyConfig::NAMES {
        let config = write_config(folder.path(), &data, strategy);
        let learnt_with = |workers: &str| {
            let run = folder.path().join(format!("{strategy}-{workers}"));
            let setting = format!("loader.workers={workers}");
            let settings = [&setting, "training.epochs=1"];
            let output = liseg(&train(&config, &run, &settings));
            assert!(output.status.success(), "{}", stderr(&output));
            let record = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            let number = |name: &str| record[name].as_f64().unwrap();
            let on_gpu = runtime::cuda_devices().is_ok();
            assert_eq!(
                record.get("peak_device_memory").is_some(),
                on_gpu,
                "{record}"
            );
            let waited = number("data_wait") * number("seconds");
            assert!(number("preparing") > 0.0 && waited > 0.0, "{record}");
            // Without threads, the loop waits while patches are made.
            let made_meanwhile = number("preparing") <= waited * 1.001;
            assert!(workers != "0" || made_meanwhile, "{record}");
            let parts = record["parts"].as_object().unwrap();
            let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
            assert!((sum / number("seconds") - 1.0).abs() < 0.01, "{record}");
            assert!(
                parts.values().all(|part| part.as_f64() > Some(0.0)),
                "{record}"
            );
            learnt(&run)
        };
        let one = learnt_with("1");
        assert!(one == learnt_with("4"), "{strategy}: 4 threads differ");
        if strategy == "supervised" {
            assert!(one == learnt_with("0"), "no thread differs");
        }
    }
}

#[test]
fn a_run_is_not_resumed_under_other_settings_nor_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let train = |extra: &[&str]| {
        let fixed = [
            "train",
            path(&config),
            "--out",
            path(&run),
            "--set",
            "training.epochs=1",
        ];
        liseg(&[&fixed[..], extra].concat())
    };
    assert!(train(&[]).status.success());
    let before = learnt(&run);
    let again = train(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--resume"), "{}", stderr(&again));
    let other = train(&["--resume", "--seed", "9"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        stderr(&other).contains("other settings"),
        "{}",
        stderr(&other)
    );
    assert!(learnt(&run) == before, "a refused call changed the run");
}

#[test]
fn a_second_training_in_a_folder_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let settings = ["training.epochs=2000"];
    let mut first = start(&config, &run, &settings);
    wait_for_epochs(&run, 1);
    let call = [&train(&config, &run, &settings)[..], &["--resume"]].concat();
    let refused = liseg(&call);
    let lived = first.try_wait().unwrap().is_none();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(lived, "it was done before it could be disturbed");
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("another process is training here"), "{said}");
    // The lock of a killed process is gone with it.
    let before = epochs(&run).len();
    let mut again = command(&call).stderr(Stdio::null()).spawn().unwrap();
    wait_for_epochs(&run, before + 2);
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn resuming_chooses_the_post_processing_that_is_still_owed() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let arguments = train(&config, &run, &["validation.folds=3"]);
    assert!(liseg(&arguments).status.success());
    let owed = ["postprocessing.json", "validation/postprocessing.json"].map(|f| run.join(f));
    let chosen = owed.clone().map(|file| std::fs::read(file).unwrap());
    for file in &owed {
        std::fs::remove_file(file).unwrap();
    }
    let output = liseg(&[&arguments[..], &["--resume"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(owed.map(|file| std::fs::read(file).unwrap()), chosen);
}
