//! LiSeg beside other tools: a virtual environment with them, and the program that times both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chores::target_folder;
use crate::failure::{Failure, Result};
use crate::install;
use crate::python;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;

/// Prints the table of ratios, and leaves it with all numbers in `target/peers`.
pub(crate) fn bench(workspace: &Workspace, only: Option<&str>) -> Result {
    let folder = workspace.root().join("benches/peers");
    let named = env::var_os("LISEG_PEERS").filter(|value| !value.is_empty());
    let environment = match named {
        Some(environment) => PathBuf::from(environment),
        None => installed(workspace, &folder.join("requirements.txt"))?,
    };
    Steps::new(workspace).run(&Step::new(
        "LiSeg's side",
        "build --release --package benches --bin peers",
    ))?;
    let target = target_folder(workspace)?;
    let program = target
        .join("release")
        .join(format!("peers{}", env::consts::EXE_SUFFIX));
    let mut command = Command::new(python::interpreter(&environment));
    command
        .arg(folder.join("run.py"))
        .arg("--program")
        .arg(program)
        .arg("--out")
        .arg(target.join("peers"));
    if let Some(text) = only {
        command.args(["--only", text]);
    }
    succeed(&mut command, "the comparison failed")
}

/// The checkout's own environment, made anew when other packages are required than it has.
fn installed(workspace: &Workspace, requirements: &Path) -> Result<PathBuf> {
    let environment = workspace.root().join(".venv-peers");
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| Failure::io("cannot read", requirements, &error))?;
    let file = requirements.to_string_lossy();
    install::packages(&environment, &wanted, &["--requirement", &file])?;
    Ok(environment)
}

fn succeed(command: &mut Command, otherwise: &str) -> Result {
    let program = PathBuf::from(command.get_program());
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::io("cannot run", &program, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{otherwise} ({status})")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_with_the_packages_required_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let requirements = root.path().join("requirements.txt");
        fs::write(&requirements, "edt==3.1.2\n").unwrap();
        let environment = root.path().join(".venv-peers");
        fs::create_dir(&environment).unwrap();
        install::remember(&environment, "edt==3.1.2\n").unwrap();
        let workspace = Workspace::at(root.path());
        assert_eq!(installed(&workspace, &requirements), Ok(environment));
    }
}
