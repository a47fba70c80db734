//! Fuzzing at length with libFuzzer, on any toolchain: what cargo-fuzz does, less the sanitizers.

use std::fs;
use std::process::Command;

use crate::chores::target_folder;
use crate::failure::{Failure, Result};
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;

/// Counters at every edge and the operands of comparisons, as libFuzzer reads them.
const FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds a target of `tests/fuzz` and runs it on what it begins with and what it found before.
pub(crate) fn run(workspace: &Workspace, target: &str, arguments: &[String]) -> Result {
    let fuzz = workspace.root().join("tests/fuzz");
    let built = target_folder(workspace)?.join("fuzz");
    // With a target named, the flags spare build scripts, which libFuzzer's runtime is not part of.
    let host = host()?;
    let package = "--package liseg-fuzz";
    let seeds = fuzz.join("corpus").join(format!("{target}-seeds"));
    let found = fuzz.join("corpus").join(target);
    fs::create_dir_all(&found).map_err(|error| Failure::io("cannot create", &found, &error))?;
    let words = [target.to_owned(), seeds.display().to_string()];
    let mut steps = Steps::new(workspace);
    steps.run(
        &Step::new(
            "seeds",
            &format!("run --quiet {package} --bin write_seeds --"),
        )
        .with_arguments(&words),
    )?;
    steps.run(
        &Step::new(
            "target",
            &format!(
                "build --release {package} --features libfuzzer --bin {target} --target {host} \
                 --config profile.release.lto=false --config profile.release.debug=1"
            ),
        )
        .with_arguments(&["--target-dir".to_owned(), built.display().to_string()])
        .with_variable("RUSTFLAGS", FLAGS),
    )?;
    let program = built.join(&host).join("release").join(target);
    let artifacts = fuzz.join("artifacts");
    fs::create_dir_all(&artifacts)
        .map_err(|error| Failure::io("cannot create", &artifacts, &error))?;
    println!("\n== {} on {}", program.display(), found.display());
    let status = Command::new(&program)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-max_len=65536", "-timeout=20", "-rss_limit_mb=1024"])
        .args(arguments)
        .args([&found, &seeds])
        .status()
        .map_err(|error| Failure::io("cannot run", &program, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(
        Failure::new(format!("{target} broke ({status})")).with_help(format!(
            "`{} FILE` repeats it with the input kept in {}",
            program.display(),
            artifacts.display()
        )),
    )
}

/// The triple of this machine, as rustc calls it.
fn host() -> Result<String> {
    let failed = |reason: &str| Failure::new(format!("`rustc -vV` failed: {reason}"));
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    host_in(&text).ok_or_else(|| failed("it names no host"))
}

fn host_in(version: &str) -> Option<String> {
    let mut lines = version.lines();
    lines.find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_the_version() {
        let version = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n";
        assert_eq!(host_in(version), Some("x86_64-unknown-linux-gnu".into()));
        assert_eq!(host_in("rustc 1.95.0"), None);
    }
}
