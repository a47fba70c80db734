//! The Pythons on this machine: which version each is, and where its torch lies.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The minor versions of CPython 3 for which PyPI has wheels of torch 2.11.0.
pub(crate) const MINORS_WITH_WHEELS: RangeInclusive<u32> = 10..=14;

/// Finds torch without importing it, which would take seconds; prints `key=value` lines.
const PROBE: &str = r#"
import sys, importlib.util
print("version=%d.%d.%d" % sys.version_info[:3])
print("implementation=" + sys.implementation.name)
print("executable=" + sys.executable)
found = importlib.util.find_spec("torch")
for folder in (found.submodule_search_locations or []) if found else []:
    print("torch=" + folder)
"#;

/// One working Python 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Python {
    pub(crate) executable: PathBuf,
    version: [u32; 3],
    implementation: String,
    /// The folder of its torch package, of whatever version.
    pub(crate) torch: Option<PathBuf>,
}

impl Python {
    /// Asks the program `python`; `None` where it does not run or is no Python 3.
    pub(crate) fn probe(python: &Path) -> Option<Self> {
        let output = Command::new(python)
            .args(["-c", PROBE])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        if !output.status.success() {
            return None;
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    fn parse(lines: &str) -> Option<Self> {
        let value = |key: &str| {
            lines
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::trim_end))
        };
        Some(Self {
            executable: value("executable").filter(|path| !path.is_empty())?.into(),
            version: parse_version(value("version")?)?,
            implementation: value("implementation")?.to_owned(),
            torch: value("torch").map(PathBuf::from),
        })
    }

    /// Whether PyPI has a wheel of our torch for it.
    pub(crate) fn has_wheel(&self) -> bool {
        let [major, minor, _] = self.version;
        self.implementation == "cpython" && major == 3 && MINORS_WITH_WHEELS.contains(&minor)
    }
}

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.version;
        write!(
            f,
            "{} {major}.{minor}.{patch} at {}",
            self.implementation,
            self.executable.display()
        )
    }
}

/// Reads `major.minor.patch`.
fn parse_version(text: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = text
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    parts.try_into().ok()
}

/// The Pythons a caller means without naming one: the active virtual environment's, then those on
/// the PATH under their plain names.
pub(crate) fn usual() -> Vec<Python> {
    probe_all(usual_programs(
        env::var_os("VIRTUAL_ENV"),
        env::var_os("PATH").as_deref(),
    ))
}

/// The Pythons on the PATH under a name with a version, newest first.
pub(crate) fn versioned() -> Vec<Python> {
    let path = env::var_os("PATH");
    let names = MINORS_WITH_WHEELS
        .rev()
        .map(|minor| format!("python3.{minor}"));
    probe_all(
        names
            .filter_map(|name| on_path(&name, path.as_deref()))
            .collect(),
    )
}

/// Probes each program once, however many names and links it has.
fn probe_all(programs: Vec<PathBuf>) -> Vec<Python> {
    // A virtual environment's Python is a link to the one it was made with, yet another Python:
    // what tells it is the folder it lies in.
    let place = |program: &Path| Some((program.parent()?.to_owned(), program.canonicalize().ok()?));
    let mut places = Vec::new();
    let mut pythons: Vec<Python> = Vec::new();
    for python in programs.iter().filter_map(|program| Python::probe(program)) {
        let place = place(&python.executable);
        if !places.contains(&place) {
            places.push(place);
            pythons.push(python);
        }
    }
    pythons
}

fn usual_programs(virtual_env: Option<OsString>, path: Option<&OsStr>) -> Vec<PathBuf> {
    let active = virtual_env.map(|folder| interpreter(Path::new(&folder)));
    let named = ["python3", "python"]
        .into_iter()
        .filter_map(|name| on_path(name, path));
    active.into_iter().chain(named).collect()
}

/// The Python of a virtual environment.
pub(crate) fn interpreter(environment: &Path) -> PathBuf {
    if cfg!(windows) {
        environment.join("Scripts").join("python.exe")
    } else {
        environment.join("bin").join("python")
    }
}

/// The first file called `name` in the folders of `path`.
pub(crate) fn on_path(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(path?)
        .map(|folder| folder.join(&file))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn python(version: &str, implementation: &str) -> Python {
        let lines = format!(
            "version={version}\nimplementation={implementation}\nexecutable=/usr/bin/python3\n"
        );
        Python::parse(&lines).unwrap()
    }

    #[test]
    fn the_answer_of_the_probe_is_read() {
        let lines = "version=3.11.7\nimplementation=cpython\nexecutable=/v/bin/python\r\n\
                     torch=/v/lib/python3.11/site-packages/torch\n";
        let python = Python::parse(lines).unwrap();
        assert_eq!(python.to_string(), "cpython 3.11.7 at /v/bin/python");
        assert_eq!(
            python.torch,
            Some("/v/lib/python3.11/site-packages/torch".into())
        );
        assert!(python.has_wheel());
        assert_eq!(Python::parse("version=3.11.7\nexecutable=\n"), None);
        assert_eq!(Python::parse(""), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, implementation, wheel) in [
            ("3.9.18", "cpython", false),
            ("3.10.0", "cpython", true),
            ("3.14.2", "cpython", true),
            ("3.15.0", "cpython", false),
            ("3.11.1", "pypy", false),
        ] {
            assert_eq!(
                python(version, implementation).has_wheel(),
                wheel,
                "{version}"
            );
        }
        assert_eq!(parse_version("3.11"), None);
        assert_eq!(parse_version("3.11.x"), None);
    }

    #[test]
    fn the_active_environment_goes_before_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder
            .path()
            .join(format!("python3{}", env::consts::EXE_SUFFIX));
        fs::write(&program, "").unwrap();
        let programs = usual_programs(Some("/active".into()), Some(folder.path().as_os_str()));
        assert_eq!(programs, [interpreter(Path::new("/active")), program]);
        assert!(usual_programs(None, None).is_empty());
    }

    #[test]
    fn what_is_no_python_is_passed_over() {
        assert_eq!(Python::probe(Path::new("/no/such/python")), None);
        let program = env::current_exe().unwrap();
        assert_eq!(Python::probe(&program), None, "a test program rejects `-c`");
    }
}
