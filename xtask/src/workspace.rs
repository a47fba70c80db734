//! Where the checkout lies, and how cargo is called in it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout this command works on.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    callers_libtorch: Option<PathBuf>,
}

impl Workspace {
    /// The checkout whose `cargo xtask` started this program.
    pub(crate) fn find() -> Self {
        // Cargo sets the variable when it runs the program, also where the checkout has moved
        // since the program was built.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .map_or_else(|| package.clone(), Path::to_path_buf);
        let mut workspace = Self {
            root,
            callers_libtorch: None,
        };
        workspace.callers_libtorch = callers_libtorch(env::var_os("LIBTORCH"), &workspace.link());
        workspace
    }

    /// Another checkout, where the caller set nothing.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            callers_libtorch: None,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The link that `.cargo/config.toml` names as LIBTORCH.
    pub(crate) fn link(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The virtual environment that `setup` makes when nothing else has libtorch.
    pub(crate) fn environment(&self) -> PathBuf {
        self.root.join(".venv")
    }

    /// LIBTORCH as the caller set it.
    pub(crate) fn callers_libtorch(&self) -> Option<&Path> {
        self.callers_libtorch.as_deref()
    }

    /// A cargo command at the root, with the environment a caller's own cargo would have.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        if self.callers_libtorch.is_none() {
            command.env_remove("LIBTORCH");
        }
        command
    }

    /// Whether Cargo.lock names `package`.
    pub(crate) fn locks(&self, package: &str) -> bool {
        fs::read_to_string(self.root.join("Cargo.lock")).is_ok_and(|lock| {
            lock.lines()
                .any(|line| line == format!("name = \"{package}\""))
        })
    }

    /// The names of the `[[example]]` targets of the package `examples`, in their order.
    pub(crate) fn examples(&self) -> Vec<String> {
        fs::read_to_string(self.root.join("examples/Cargo.toml"))
            .map(|manifest| example_names(&manifest))
            .unwrap_or_default()
    }
}

/// Cargo sets LIBTORCH too, from `.cargo/config.toml`, for the programs it runs: the path of the
/// link is not a choice of the caller.
fn callers_libtorch(variable: Option<OsString>, link: &Path) -> Option<PathBuf> {
    variable
        .map(PathBuf::from)
        .filter(|folder| !folder.as_os_str().is_empty() && folder != link)
}

/// Reads the `name` of each `[[example]]` table of our own manifest; not a TOML parser.
fn example_names(manifest: &str) -> Vec<String> {
    let mut in_example = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_example = line == "[[example]]";
        } else if in_example
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            names.push(value.trim().trim_matches('"').to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_own_libtorch_is_not_the_callers() {
        let link = Path::new("/checkout/.libtorch");
        assert_eq!(callers_libtorch(None, link), None);
        assert_eq!(callers_libtorch(Some("".into()), link), None);
        assert_eq!(
            callers_libtorch(Some("/checkout/.libtorch".into()), link),
            None
        );
        assert_eq!(
            callers_libtorch(Some("/opt/libtorch".into()), link),
            Some("/opt/libtorch".into())
        );
    }

    #[test]
    fn example_names_come_from_example_tables_alone() {
        let manifest = "[package]\nname = \"examples\"\n\n[[example]]\nname = \"resample\"\n\
                        path = \"resample.rs\"\n\n[[example]]\npath = \"a.rs\"\nname=\"augment\"\n\
                        [dependencies]\nname = \"none\"\n";
        assert_eq!(example_names(manifest), ["resample", "augment"]);
    }

    #[test]
    fn this_package_lies_in_the_workspace() {
        assert!(Workspace::find().locks("xtask"));
        assert!(!Workspace::find().locks("no-such-package"));
    }
}
