//! Several runs at a time, in processes.
//!
//! A small network does not keep many cores busy, but several of them do. A process is told a run by a line on its
//! standard input, and says by a line on its standard output that the run is done; then it gets the next of
//! those whose own preparations are done.

use super::{Failure, Result, Shared, interrupt, progress};
use indicatif::ProgressBar;
use liseg::engine::experiment::{PlannedRun, Prepared};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the processes have in common.
pub(super) struct Jobs<'a> {
    /// The experiment's file.
    pub(super) file: &'a Path,
    /// Its datasets, which are ready, and its runs.
    pub(super) prepared: &'a Prepared,
    /// How many at a time.
    pub(super) count: usize,
    pub(super) shared: &'a Shared,
    pub(super) bar: &'a ProgressBar,
}

/// A process that does runs.
struct Worker<'a> {
    process: Child,
    /// The process stops when this is closed, be it by us or because we are no more.
    orders: Option<ChildStdin>,
    /// What it is at.
    run: Option<&'a PlannedRun>,
    ended: bool,
    /// Passes on what the process says; gives its last line.
    listener: Option<JoinHandle<String>>,
}

/// What a process told by its standard output.
enum News {
    Line(String),
    Ended,
}

impl<'a> Jobs<'a> {
    /// Trains and judges all runs; `false` when the user asked to stop.
    pub(super) fn run(&self) -> Result<bool> {
        let runs = &self.prepared.plan.runs;
        self.bar.set_length(runs.len() as u64);
        let mut queue = Queue::of(runs);
        let (sender, news) = channel();
        let workers = (0..self.count).map(|number| self.start(number, &sender));
        let mut workers: Vec<Worker<'a>> = workers.collect::<Result<_>>()?;
        let mut failed = None;
        while workers.iter().any(|worker| !worker.ended) {
            for worker in &mut workers {
                if interrupt::asked() {
                    worker.orders = None;
                } else if worker.run.is_none() && !worker.ended {
                    worker.employ(&mut queue, failed.is_some());
                }
            }
            let Ok((number, told)) = news.recv_timeout(Duration::from_millis(200)) else {
                continue;
            };
            let worker: &mut Worker<'a> = &mut workers[number];
            match told {
                News::Line(line) => {
                    // Libraries print there as well when they are asked to (ONEDNN_VERBOSE).
                    if let Some(run) = worker.run.take_if(|run| run.id == line) {
                        self.bar.inc(1);
                        queue.done(run);
                    }
                }
                News::Ended => {
                    let failure = worker.end();
                    failed = failed.or(failure.filter(|_| !interrupt::asked()));
                }
            }
        }
        match failed {
            Some(failure) => Err(failure),
            None => Ok(!interrupt::asked()),
        }
    }

    fn start(&self, number: usize, sender: &Sender<(usize, News)>) -> Result<Worker<'a>> {
        let refuse = |e: std::io::Error| Failure::work(format!("cannot start a process: {e}"));
        let program = std::env::current_exe().map_err(refuse)?;
        let mut process = self.command(&program).spawn().map_err(refuse)?;
        let (shared, bar) = (self.shared.clone(), self.bar.clone());
        let said = process.stderr.take().map(lines);
        let listener = std::thread::spawn(move || {
            let mut last = String::new();
            for line in said.into_iter().flatten() {
                progress::note(&shared, Some(&bar), &format!("job {}: {line}", number + 1));
                last = line;
            }
            last
        });
        let (told, sender) = (process.stdout.take().map(lines), sender.clone());
        std::thread::spawn(move || {
            let told = told.into_iter().flatten().map(News::Line);
            for news in told.chain([News::Ended]) {
                // Whoever does not listen any more does not want to know.
                let _ = sender.send((number, news));
            }
        });
        Ok(Worker {
            orders: process.stdin.take(),
            process,
            run: None,
            ended: false,
            listener: Some(listener),
        })
    }

    fn command(&self, program: &Path) -> Command {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.shared.threads.map_or(cores, usize::from);
        let mut command = Command::new(program);
        command
            .arg("experiment")
            .arg(self.file)
            .arg("--out")
            .arg(&self.prepared.folder)
            .arg("--job")
            .args(["--threads", &(threads / self.count).max(1).to_string()])
            .args((0..self.shared.verbose).map(|_| "-v"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(seed) = self.shared.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        if let Some(device) = self.shared.device {
            command.args(["--device", &device.to_string()]);
        }
        command
    }
}

impl<'a> Worker<'a> {
    /// Gives the process a run that can begin, or lets it go when there will be none.
    fn employ(&mut self, queue: &mut Queue<'a>, give_up: bool) {
        if give_up || queue.is_empty() {
            self.orders = None;
            return;
        }
        self.run = queue.next();
        if let (Some(run), Some(orders)) = (self.run, &mut self.orders) {
            // A process that cannot be told has ended, which is told by itself.
            let _ = writeln!(orders, "{}", run.id);
        }
    }

    /// Says what went wrong, if anything did, once the process has ended.
    fn end(&mut self) -> Option<Failure> {
        self.ended = true;
        let success = self.process.wait().is_ok_and(|status| status.success());
        let last = self.listener.take().map(JoinHandle::join);
        if success && self.run.is_none() {
            return None;
        }
        let at = self.run.map_or("a job", |run| &run.id);
        let last = last.and_then(std::result::Result::ok).unwrap_or_default();
        Some(Failure::work(format!("{at}: {last}")))
    }
}

fn lines(pipe: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(pipe).lines().map_while(|line| line.ok())
}

/// The runs that nobody is at, in the order of the plan.
struct Queue<'a> {
    waiting: Vec<&'a PlannedRun>,
    unfinished: BTreeSet<&'a str>,
}

impl<'a> Queue<'a> {
    fn of(runs: &'a [PlannedRun]) -> Self {
        Self {
            waiting: runs.iter().collect(),
            unfinished: runs.iter().map(|run| run.id.as_str()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first run that waits for no other.
    fn next(&mut self) -> Option<&'a PlannedRun> {
        let ready = |run: &&PlannedRun| !run.depends_on().any(|id| self.unfinished.contains(id));
        let place = self.waiting.iter().position(ready)?;
        Some(self.waiting.remove(place))
    }

    fn done(&mut self, run: &PlannedRun) {
        self.unfinished.remove(run.id.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg::engine::experiment::Experiment;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    #[test]
    fn runs_wait_for_their_preparations_alone() {
        let text = "name = \"e\"\nseeds = [1, 2]\ncontrol = \"none\"\n\
                    [datasets.target]\npath = \"somewhere\"\n\
                    [[variants]]\nname = \"base\"\nrow = false\n\
                    [[variants]]\nname = \"fine\"\nafter = \"base\"\n\
                    [[variants]]\nname = \"uncleaned\"\nafter = \"base\"\nclean = false\n\
                    [[variants]]\nname = \"other\"\ncascade = { by = \"base\" }\nset.network.size = \"B\"\n";
        let experiment: Experiment = toml::from_str(text).unwrap();
        let data = |name: &str| PathBuf::from(name);
        let plan = experiment.plan(&BTreeMap::new(), &data).unwrap();
        let mut queue = Queue::of(&plan.runs);
        let take = |queue: &mut Queue<'_>| queue.next().map(|run| run.id.clone());
        let finish = |queue: &mut Queue<'_>, id: &str| {
            queue.done(plan.runs.iter().find(|run| run.id == id).unwrap());
        };
        assert_eq!(take(&mut queue).as_deref(), Some("base-seed1"));
        assert_eq!(take(&mut queue).as_deref(), Some("base-seed2"));
        assert_eq!(take(&mut queue), None);
        finish(&mut queue, "base-seed2");
        assert_eq!(take(&mut queue).as_deref(), Some("fine-seed2"));
        // Its training is that of `fine`.
        assert_eq!(take(&mut queue).as_deref(), Some("other-seed2"));
        assert_eq!(take(&mut queue), None);
        finish(&mut queue, "fine-seed2");
        assert_eq!(take(&mut queue).as_deref(), Some("uncleaned-seed2"));
        finish(&mut queue, "base-seed1");
        assert_eq!(take(&mut queue).as_deref(), Some("fine-seed1"));
        finish(&mut queue, "fine-seed1");
        assert_eq!(take(&mut queue).as_deref(), Some("uncleaned-seed1"));
        assert!(!queue.is_empty());
        assert_eq!(take(&mut queue).as_deref(), Some("other-seed1"));
        assert!(queue.is_empty());
    }
}
