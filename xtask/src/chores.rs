//! What the chores do once libtorch is there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::setup;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;

pub(crate) fn demo(workspace: &Workspace, arguments: &[String]) -> Result {
    setup::run(workspace)?;
    let step = Step::new("demo", "run --release --package liseg -- demo").with_arguments(arguments);
    Steps::new(workspace).run(&step)
}

pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result {
    setup::run(workspace)?;
    let mut step = Step::new("benchmarks", "bench --package benches");
    if !arguments.is_empty() {
        step = step
            .with_arguments(&["--".to_owned()])
            .with_arguments(arguments);
    }
    Steps::new(workspace).run(&step)
}

/// The list in `benches/networks/gpu_check`, and with a Python that has PyTorch the same network beside it.
pub(crate) fn gpu_check(workspace: &Workspace, require: bool, python: Option<&str>) -> Result {
    setup::run(workspace)?;
    let build = "build --release --package network-benches --bins";
    let mut check = Step::new(
        "check",
        "run --release --package network-benches --bin gpu_check",
    );
    if require {
        check = check.with_arguments(&["--".to_owned(), "--require".to_owned()]);
    }
    let mut steps = Steps::new(workspace);
    steps.run(&Step::new("build", build))?;
    steps.run(&check)?;
    let Some(python) = python else {
        println!("\nPyTorch was not timed beside it: no --python was given");
        return Ok(());
    };
    if !Path::new("/proc/driver/nvidia/version").exists() {
        println!("\nPyTorch was not timed beside it: no NVIDIA driver is loaded here");
        return Ok(());
    }
    let program = target_folder(workspace)?.join("release/network_speed");
    let script = workspace.root().join("benches/peers/networks.py");
    for size in ["S", "B", "L"] {
        let status = Command::new(python)
            .arg(&script)
            .arg("--program")
            .arg(&program)
            .args(["--device", "cuda", "--patch", "128,128,128", "--size", size])
            .status()
            .map_err(|error| Failure::io("cannot run", Path::new(python), &error))?;
        if !status.success() {
            return Err(Failure::new(format!(
                "{} failed ({status})",
                script.display()
            )));
        }
    }
    Ok(())
}

/// Puts a stripped `liseg` with its licence and README into `target/dist`.
pub(crate) fn dist(workspace: &Workspace) -> Result {
    setup::run(workspace)?;
    Steps::new(workspace).run(&Step::new(
        "release program",
        "build --release --package liseg --bin liseg",
    ))?;
    let target = target_folder(workspace)?;
    let folder = target.join("dist");
    fs::create_dir_all(&folder).map_err(|error| Failure::io("cannot create", &folder, &error))?;
    let program = format!("liseg{}", env::consts::EXE_SUFFIX);
    copy(
        &target.join("release").join(&program),
        &folder.join(&program),
    )?;
    strip(&folder.join(&program))?;
    for name in ["LICENSE", "README.md"] {
        copy(&workspace.root().join(name), &folder.join(name))?;
    }
    println!(
        "\n{} is ready; where libtorch lies elsewhere, either",
        folder.display()
    );
    println!("put it beside the program as libtorch/, or its lib/ on LD_LIBRARY_PATH");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to).map_err(|error| Failure::io("cannot copy", from, &error))?;
    Ok(())
}

fn strip(program: &Path) -> Result {
    let status = Command::new("strip")
        .arg(program)
        .status()
        .map_err(|error| Failure::io("cannot run strip on", program, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("strip failed ({status})")))
    }
}

/// Where cargo builds, which configuration may have moved.
pub(crate) fn target_folder(workspace: &Workspace) -> Result<PathBuf> {
    let failed = |reason: &str| Failure::new(format!("cargo metadata failed: {reason}"));
    let output = workspace
        .cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    target_in_metadata(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| failed("it names no target_directory"))
}

/// The one string of the JSON that is needed; a quote in a path stays unread.
fn target_in_metadata(json: &str) -> Option<PathBuf> {
    let (_, rest) = json.split_once(r#""target_directory":""#)?;
    let (path, _) = rest.split_once('"')?;
    Some(path.replace(r"\\", r"\").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_is_read_from_metadata() {
        let json = r#"{"packages":[],"target_directory":"/checkout/target","version":1}"#;
        assert_eq!(target_in_metadata(json), Some("/checkout/target".into()));
        assert_eq!(target_in_metadata("{}"), None);
        assert!(target_folder(&Workspace::find()).unwrap().is_absolute());
    }
}
