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

/// A program of LiSeg's that rows about networks are made with. It needs torch and long to build, so that
/// it is built for those rows alone.
struct TorchSide {
    build: &'static str,
    /// Where it lies among what was built, and what the script calls it.
    program: &'static str,
    /// By which the script is told of it.
    option: &'static str,
}

const TORCH_SIDES: [TorchSide; 2] = [
    TorchSide {
        build: "build --release --package network-benches --bin network_speed",
        program: "network_speed",
        option: "--network-speed",
    },
    TorchSide {
        build: "build --release --package liseg --bin liseg",
        program: "liseg",
        option: "--liseg",
    },
];

/// The programs with torch without which the script `script` would leave rows out.
fn torch_sides(script: &mut Command) -> Result<Vec<&'static TorchSide>> {
    let program = PathBuf::from(script.get_program());
    let output = script
        .arg("--programs")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::io("cannot run", &program, &error))?;
    if !output.status.success() {
        let status = output.status;
        return Err(Failure::new(format!("the comparison failed ({status})")));
    }
    let wanted = String::from_utf8_lossy(&output.stdout);
    let sides = TORCH_SIDES
        .iter()
        .filter(|side| wanted.lines().any(|line| line == side.program));
    Ok(sides.collect())
}

/// Prints the table of ratios, and leaves it with all numbers in `target/peers`.
pub(crate) fn bench(workspace: &Workspace, only: Option<&str>) -> Result {
    let folder = workspace.root().join("benches/peers");
    let named = env::var_os("LISEG_PEERS").filter(|value| !value.is_empty());
    let environment = match named {
        Some(environment) => PathBuf::from(environment),
        None => installed(workspace, &folder.join("requirements.txt"))?,
    };
    let mut steps = Steps::new(workspace);
    steps.run(&Step::new(
        "LiSeg's side",
        "build --release --package benches --bin peers",
    ))?;
    let release = target_folder(workspace)?.join("release");
    let named = |name: &str| release.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let script = || {
        let mut command = Command::new(python::interpreter(&environment));
        command.arg(folder.join("run.py"));
        command.args(only.map(|text| format!("--only={text}")));
        command
    };
    let mut command = script();
    command
        .arg("--program")
        .arg(named("peers"))
        .arg("--out")
        .arg(release.join("../peers"));
    for side in torch_sides(&mut script())? {
        steps.run(&Step::new(side.program, side.build))?;
        command.arg(side.option).arg(named(side.program));
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
    fn programs_with_torch_are_built_for_their_rows_alone() {
        let python = python::usual().remove(0).executable;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/peers/run.py");
        let wanted = |only: &str| -> Vec<_> {
            let mut command = Command::new(&python);
            command.arg(&script).arg(format!("--only={only}"));
            let sides = torch_sides(&mut command).unwrap();
            sides.into_iter().map(|side| side.program).collect()
        };
        assert_eq!(wanted("").len(), 2);
        assert_eq!(wanted("pytorch"), ["network_speed"]);
        assert_eq!(wanted("Network, training"), ["network_speed"]);
        assert_eq!(wanted("1024"), ["liseg"]);
        assert!(wanted("cc3d").is_empty());
    }

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
