//! The command under damage, under kills and on full disks: a short campaign in the tests, a long one by
//! `cargo xtask torture`.
//!
//! Whatever is put before it, a call ends by itself with an exit status of its own (0, 1 or 2): no panic, no
//! abort, no standstill, no memory that the input cannot account for.

mod disk;
mod documents;
mod images;
mod kills;

use crate::common::command;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A call that takes longer stands still: on damaged input each takes well below a second.
const LONGEST: Duration = Duration::from_secs(10);

/// The same of work that is interrupted, which learns in between.
const LONGEST_WORK: Duration = Duration::from_secs(60);

/// Resident memory that no call may pass, in KiB.
const MOST_MEMORY: u64 = 2 << 20;

/// What a full disk is called.
const FULL: &str = "no storage space";

/// How many inputs of each kind are tried: `LISEG_TORTURE`, or a few.
fn inputs(few: u64) -> u64 {
    let asked = std::env::var("LISEG_TORTURE").ok();
    asked.map_or(few, |n| n.parse().expect("LISEG_TORTURE is a number"))
}

/// How a call ended.
struct Ended {
    /// `None` when a signal ended it.
    code: Option<i32>,
    stderr: String,
}

/// Runs the command to its end, watching its time and memory.
fn run(arguments: &[&str], folder: &Path) -> Ended {
    run_within(LONGEST, arguments, folder, &[])
}

fn run_with(arguments: &[&str], folder: &Path, environment: &[(&str, String)]) -> Ended {
    run_within(LONGEST_WORK, arguments, folder, environment)
}

fn run_within(
    longest: Duration,
    arguments: &[&str],
    folder: &Path,
    environment: &[(&str, String)],
) -> Ended {
    let said = folder.join("stderr.txt");
    let mut child = command(arguments)
        .current_dir(folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let memory = resident(child.id());
        let trouble = match start.elapsed() > longest {
            true => Some("it stands still".to_owned()),
            false if memory > MOST_MEMORY => Some(format!("it holds {} MiB", memory >> 10)),
            false => None,
        };
        if let Some(trouble) = trouble {
            child.kill().unwrap();
            child.wait().unwrap();
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            panic!("{arguments:?}: {trouble}: {said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ended {
        code: status.code(),
        stderr: String::from_utf8_lossy(&std::fs::read(&said).unwrap()).into_owned(),
    }
}

/// Resident memory of a process in KiB, 0 where that cannot be told.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or(0)
}

/// What is wrong with how a call ended, if anything is.
fn fault(ended: &Ended) -> Option<String> {
    let text = &ended.stderr;
    if !matches!(ended.code, Some(0..=2)) {
        return Some(format!("exit status {:?}: {text}", ended.code));
    }
    for sign in ["panicked", "stack backtrace", "C++ exception", "c10::"] {
        if text.contains(sign) {
            return Some(format!("`{sign}` in {text}"));
        }
    }
    (ended.code != Some(0) && text.trim().is_empty()).then(|| "it failed without a word".to_owned())
}

/// Keeps what broke the command where it can be tried again.
fn keep(folder: &Path, name: &str) -> String {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("torture")
        .join(name);
    crate::common::shared::copy_folder(folder, &kept);
    kept.display().to_string()
}
