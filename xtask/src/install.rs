//! torch from PyPI into a virtual environment of the checkout, for machines without libtorch.

use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::libtorch::{Libtorch, VERSION};
use crate::python::{self, MINORS_WITH_WHEELS, Python};

/// Written into the environment before anything else and completed after everything else.
const STAMP: &str = "made-by-xtask";
const LOG: &str = "xtask-install.log";
const INSTALLING: &str = "unpacking all of it, a minute or so";

/// What lies where the environment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    /// Ours, and its installation ended well.
    Complete,
    /// Ours, and its installation was cut short.
    Interrupted,
    /// Made by someone else: not ours to change.
    Foreign,
}

impl State {
    fn of(environment: &Path) -> Self {
        if fs::symlink_metadata(environment).is_err() {
            return Self::Absent;
        }
        match fs::read_to_string(environment.join(STAMP)) {
            Ok(text) if text.trim_end() == complete() => Self::Complete,
            Ok(_) => Self::Interrupted,
            Err(_) => Self::Foreign,
        }
    }
}

fn complete() -> String {
    format!("torch {VERSION} complete")
}

/// Whether `environment` is whole: ours and complete, or someone else's. One of ours that was cut
/// short may look whole and lack files.
pub(crate) fn finished(environment: &Path) -> bool {
    matches!(State::of(environment), State::Complete | State::Foreign)
}

/// Installs torch into `environment`, replacing what an interrupted run left there.
///
/// # Errors
/// Says what is missing: a Python with a wheel, its `venv` module, the network.
pub(crate) fn install(environment: &Path) -> Result<Libtorch> {
    match State::of(environment) {
        State::Absent => {}
        State::Foreign => return Err(foreign(environment)),
        State::Interrupted | State::Complete => {
            // Complete, yet without a usable libtorch: files were removed since.
            println!(
                "{} holds an unfinished or damaged installation: starting over",
                environment.display()
            );
            fs::remove_dir_all(environment)
                .map_err(|error| Failure::io("cannot remove", environment, &error))?;
        }
    }
    let python = suitable_python()?;
    println!("making {} with {python}", environment.display());
    fs::create_dir(environment)
        .map_err(|error| Failure::io("cannot create", environment, &error))?;
    stamp(environment, "torch installation begun")?;
    make_environment(&python, environment)?;
    let interpreter = python::interpreter(environment);
    install_torch(&interpreter, environment)?;
    let installed = Python::probe(&interpreter)
        .ok_or_else(|| Failure::new(format!("{} does not run", interpreter.display())))?;
    load(&installed)?;
    let libtorch = Libtorch::inspect(&installed.torch.unwrap_or_default())?;
    stamp(environment, &complete())?;
    Ok(libtorch)
}

fn stamp(environment: &Path, text: &str) -> Result {
    let file = environment.join(STAMP);
    fs::write(&file, format!("{text}\n"))
        .map_err(|error| Failure::io("cannot write", &file, &error))
}

fn foreign(environment: &Path) -> Failure {
    Failure::new(format!(
        "{} has no torch {VERSION}, and `cargo xtask setup` did not make it",
        environment.display()
    ))
    .with_help(format!(
        "`{} -m pip install torch=={VERSION}` adds it there; or move that folder away",
        python::interpreter(environment).display()
    ))
}

/// The first Python for which PyPI has a wheel, those without a version in their name first.
fn suitable_python() -> Result<Python> {
    let mut seen = Vec::new();
    for find in [python::usual, python::versioned] {
        for python in find() {
            if python.has_wheel() {
                return Ok(python);
            }
            seen.push(python.to_string());
        }
    }
    let (first, last) = (MINORS_WITH_WHEELS.start(), MINORS_WITH_WHEELS.end());
    let what = if seen.is_empty() {
        "no Python 3 on the PATH".to_owned()
    } else {
        format!(
            "no Python with a wheel of torch {VERSION}; found {}",
            seen.join(", ")
        )
    };
    Err(Failure::new(what).with_help(format!(
        "install CPython 3.{first} to 3.{last} with its venv module,\n\
         or unpack libtorch {VERSION} (cxx11 ABI) from pytorch.org and set LIBTORCH to its folder"
    )))
}

fn make_environment(python: &Python, environment: &Path) -> Result {
    let output = Command::new(&python.executable)
        .args(["-m", "venv"])
        .arg(environment)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::io("cannot run", &python.executable, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(Failure::new(format!(
        "{python} cannot make a virtual environment:\n{}",
        said.trim()
    ))
    .with_help("its venv module may be a package of its own: on Debian and Ubuntu, python3-venv"))
}

/// Packages of PyPI in an environment of their own, made anew when others are wanted than it has.
///
/// `wanted` names them with their versions; `arguments` are those of `pip install`.
pub(crate) fn packages(environment: &Path, wanted: &str, arguments: &[&str]) -> Result {
    if fs::read_to_string(environment.join(STAMP)).is_ok_and(|has| has == wanted) {
        return Ok(());
    }
    let python = suitable_python()?;
    println!("making {} with {python}", environment.display());
    make_environment(&python, environment)?;
    let interpreter = python::interpreter(environment);
    let status = Command::new(&interpreter)
        .args(["-m", "pip", "install", "--no-input"])
        .arg("--disable-pip-version-check")
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::io("cannot run", &interpreter, &error))?;
    if !status.success() {
        let what = wanted.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(Failure::new(format!(
            "pip could not install {what} ({status})"
        )));
    }
    remember(environment, wanted)
}

/// Notes in the environment what was installed, once all of it is.
pub(crate) fn remember(environment: &Path, wanted: &str) -> Result {
    let file = environment.join(STAMP);
    fs::write(&file, wanted).map_err(|error| Failure::io("cannot write", &file, &error))
}

fn install_torch(interpreter: &Path, environment: &Path) -> Result {
    let log_path = environment.join(LOG);
    let log_error = |error: io::Error| Failure::io("cannot write", &log_path, &error);
    let mut log = fs::File::create(&log_path).map_err(log_error)?;
    println!(
        "installing torch {VERSION} from PyPI; on Linux about 2.5 GB to download, 5 GB on disk"
    );
    // Both streams into one pipe: pip's warnings (retries among them) belong between its lines.
    let (reader, writer) = io::pipe().map_err(log_error)?;
    let mut child = Command::new(interpreter)
        .args([
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
        ])
        .args(["--progress-bar", "off", "--only-binary", ":all:"])
        .arg(format!("torch=={VERSION}"))
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(log_error)?)
        .stderr(writer)
        .spawn()
        .map_err(|error| Failure::io("cannot run", interpreter, &error))?;
    let mut progress = Progress::new();
    let mut said = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(log_error)?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        writeln!(log, "{line}").map_err(log_error)?;
        progress.show(&line);
        said.push(line);
    }
    let status = child.wait().map_err(log_error)?;
    progress.end();
    if status.success() {
        println!(
            "installed in {:.0} s",
            progress.begun.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    Err(explain(&said, &log_path))
}

/// What pip's words mean for the reader.
fn explain(said: &[String], log: &Path) -> Failure {
    let errors: Vec<&str> = said
        .iter()
        .map(|line| line.trim())
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    let shown = if errors.is_empty() {
        said.last()
            .map(|line| line.trim().to_owned())
            .unwrap_or_default()
    } else {
        errors.join("\n")
    };
    let any = |words: &[&str]| {
        said.iter()
            .any(|line| words.iter().any(|word| line.contains(word)))
    };
    // The network first: without it pip finds no matching distribution either.
    let help = if any(&[
        "Retrying (",
        "NewConnectionError",
        "Could not fetch URL",
        "timed out",
    ]) {
        "PyPI cannot be reached: check the network, a proxy (HTTPS_PROXY) or a mirror (PIP_INDEX_URL)"
    } else if any(&["No space left"]) {
        "5 GB are needed here, and as much again in pip's cache and temporary folder"
    } else if any(&["No matching distribution"]) {
        "PyPI has no wheel for this system: unpack libtorch from pytorch.org and set LIBTORCH"
    } else {
        "run `cargo xtask setup` again once the cause is gone: it starts over"
    };
    Failure::new(format!("pip could not install torch {VERSION}:\n{shown}"))
        .with_help(format!("{help}\nall that pip said is in {}", log.display()))
}

/// Loads torch once in its Python: that proves that the libraries it needs are there too.
///
/// # Errors
/// With what Python said.
pub(crate) fn load(python: &Python) -> Result {
    let output = Command::new(&python.executable)
        .args(["-c", "import torch"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::io("cannot run", &python.executable, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("it does not load:\n{}", said.trim())))
}

/// One line that changes on a terminal; elsewhere a line now and then.
struct Progress {
    begun: Instant,
    last_shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    const BETWEEN_LINES: Duration = Duration::from_secs(15);

    fn new() -> Self {
        Self {
            begun: Instant::now(),
            last_shown: None,
            terminal: io::stdout().is_terminal(),
        }
    }

    fn show(&mut self, line: &str) {
        // Warnings, of which pip makes one for each retry, are never swallowed.
        if line.trim_start().starts_with("WARNING") {
            self.end();
            println!("  pip: {}", line.trim());
            return;
        }
        let Some(doing) = doing(line) else { return };
        let seconds = self.begun.elapsed().as_secs();
        if self.terminal {
            print!("\r\x1b[2K  {seconds:>4} s  {doing}");
            // A terminal that cannot be written to is no reason to end the installation.
            let _ = io::stdout().flush();
        } else if doing == INSTALLING
            || self
                .last_shown
                .is_none_or(|shown| shown.elapsed() >= Self::BETWEEN_LINES)
        {
            println!("  {seconds:>4} s  {doing}");
        } else {
            return;
        }
        self.last_shown = Some(Instant::now());
    }

    fn end(&mut self) {
        if self.terminal && self.last_shown.take().is_some() {
            println!();
        }
    }
}

/// The short form of a line of pip that says what it does now.
fn doing(line: &str) -> Option<String> {
    let line = line.trim();
    let (verb, rest) = line.split_once(' ')?;
    match verb {
        "Downloading" | "Using" => {
            let file = rest.trim_start_matches("cached ");
            let (path, size) = file.split_once(" (").unwrap_or((file, ""));
            let name = path.rsplit('/').next()?.split('-').next()?;
            let from = if verb == "Using" {
                "from pip's cache"
            } else {
                size.trim_end_matches(')')
            };
            Some(format!("{name} {from}").trim_end().to_owned())
        }
        "Installing" => Some(INSTALLING.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_installation_is_told_from_a_complete_one() {
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path().join(".venv");
        assert_eq!(State::of(&environment), State::Absent);
        fs::create_dir(&environment).unwrap();
        assert_eq!(State::of(&environment), State::Foreign);
        stamp(&environment, "torch installation begun").unwrap();
        assert_eq!(State::of(&environment), State::Interrupted);
        stamp(&environment, &complete()).unwrap();
        assert_eq!(State::of(&environment), State::Complete);
    }

    #[test]
    fn the_environment_of_someone_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::write(&kept, "").unwrap();
        let message = install(folder.path()).unwrap_err().to_string();
        assert!(message.contains("did not make it"), "{message}");
        assert!(kept.exists());
    }

    #[test]
    fn pips_lines_become_progress() {
        let line =
            "  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)";
        assert_eq!(doing(line).unwrap(), "torch 29 kB");
        assert_eq!(
            doing("Using cached https://host/simple/sympy-1.14.0-py3-none-any.whl (6.3 MB)")
                .unwrap(),
            "sympy from pip's cache"
        );
        assert_eq!(
            doing("Installing collected packages: a, b").unwrap(),
            INSTALLING
        );
        assert_eq!(doing("Collecting torch==2.11.0"), None);
        assert_eq!(doing(""), None);
    }

    #[test]
    fn failures_of_pip_are_explained() {
        let said = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let none = "ERROR: No matching distribution found for torch==2.11.0";
        let offline = explain(
            &said(&[
                "WARNING: Retrying (Retry(total=4)) after connection broken",
                none,
            ]),
            Path::new("log"),
        );
        assert!(
            offline.to_string().contains("PyPI cannot be reached"),
            "{offline}"
        );
        let no_wheel = explain(&said(&[none]), Path::new("log")).to_string();
        assert!(
            no_wheel.contains(none) && no_wheel.contains("no wheel"),
            "{no_wheel}"
        );
        let other = explain(&said(&["Killed"]), Path::new("log")).to_string();
        assert!(
            other.contains("Killed") && other.contains("starts over"),
            "{other}"
        );
    }
}
