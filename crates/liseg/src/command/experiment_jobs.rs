//! Runs of several seeds at a time, each seed in a process of its own.
//!
//! A small network does not keep many cores busy, but several of them do. No run depends on one of another
//! seed, so that seeds are what processes share out.

use super::{Failure, Result, Shared, interrupt, progress};
use indicatif::ProgressBar;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the processes have in common.
pub(super) struct Jobs<'a> {
    /// The experiment's file.
    pub(super) file: &'a Path,
    /// Its folder, whose datasets are ready.
    pub(super) folder: &'a Path,
    /// How many at a time.
    pub(super) count: usize,
    pub(super) shared: &'a Shared,
    pub(super) bar: &'a ProgressBar,
}

/// A process at work on a seed.
struct Job {
    seed: u64,
    process: Child,
    /// The process stops when this is closed, be it by us or because we are no more.
    lifeline: Option<ChildStdin>,
    /// Passes on what the process says; gives its last line.
    listener: JoinHandle<String>,
}

impl Jobs<'_> {
    /// Trains and judges all runs of the seeds; `tick` is called several times a second. `false` when the user
    /// asked to stop.
    pub(super) fn run(&self, seeds: &[u64], tick: &dyn Fn()) -> Result<bool> {
        let mut waiting = seeds.iter().copied();
        let mut working: Vec<Job> = Vec::new();
        let mut failed = None;
        loop {
            let stopping = interrupt::asked() || failed.is_some();
            while !stopping && working.len() < self.count {
                let Some(seed) = waiting.next() else { break };
                working.push(self.start(seed)?);
            }
            if working.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
            tick();
            let mut still = Vec::new();
            for mut job in working {
                if interrupt::asked() {
                    job.lifeline = None;
                }
                match job.process.try_wait() {
                    Ok(None) => still.push(job),
                    ended => {
                        let last = job.listener.join().unwrap_or_default();
                        if !ended.is_ok_and(|status| status.is_some_and(|s| s.success()))
                            && !interrupt::asked()
                        {
                            failed = Some(Failure::work(format!("seed {}: {last}", job.seed)));
                        }
                    }
                }
            }
            working = still;
        }
        match failed {
            Some(failure) => Err(failure),
            None => Ok(!interrupt::asked()),
        }
    }

    fn start(&self, seed: u64) -> Result<Job> {
        let refuse = |e: std::io::Error| Failure::work(format!("cannot start a process: {e}"));
        let program = std::env::current_exe().map_err(refuse)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.shared.threads.map_or(cores, usize::from);
        let mut command = Command::new(program);
        command
            .arg("experiment")
            .arg(self.file)
            .arg("--out")
            .arg(self.folder)
            .args(["--seed", &seed.to_string(), "--job"])
            .args(["--threads", &(threads / self.count).max(1).to_string()])
            .args((0..self.shared.verbose).map(|_| "-v"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(device) = self.shared.device {
            command.args(["--device", &device.to_string()]);
        }
        let mut process = command.spawn().map_err(refuse)?;
        let lifeline = process.stdin.take();
        let (shared, bar) = (self.shared.clone(), self.bar.clone());
        let lines = process
            .stderr
            .take()
            .map(|pipe| BufReader::new(pipe).lines());
        let listener = std::thread::spawn(move || {
            let mut last = String::new();
            for line in lines.into_iter().flatten().map_while(|line| line.ok()) {
                progress::note(&shared, Some(&bar), &format!("seed {seed}: {line}"));
                last = line;
            }
            last
        });
        Ok(Job {
            seed,
            process,
            lifeline,
            listener,
        })
    }
}
