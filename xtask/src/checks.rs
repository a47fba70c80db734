//! All that a change must pass.
//!
//! Every step compiles with the same compiler and the same settings, so that each crate is compiled once: clippy's compiler
//! builds what the tests run, and refuses what it would warn of.

use std::env;

use crate::arguments::Extent;
use crate::failure::Result;
use crate::python::on_path;
use crate::setup;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;

/// How the names of tests begin that are `#[ignore]`d and need what this machine lacks; says which and why.
fn lacking() -> Vec<&'static str> {
    // Under the names that the test looks for.
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let needs = [
        (
            "data_packs::",
            "LISEG_DATA names no folder",
            env::var_os("LISEG_DATA").is_some_and(|folder| !folder.is_empty()),
        ),
        (
            "browser::",
            "no Chromium is on the PATH",
            names.into_iter().any(is_on_path),
        ),
    ];
    let mut lacking = Vec::new();
    for (name, reason, is_there) in needs {
        if !is_there {
            println!("tests `{name}` are left out: {reason}");
            lacking.push(name);
        }
    }
    lacking
}

fn is_on_path(name: &str) -> bool {
    on_path(name, env::var_os("PATH").as_deref()).is_some()
}

/// # Errors
/// When a step fails; the table of times is printed all the same.
pub(crate) fn run(workspace: &Workspace, extent: Extent) -> Result {
    setup::run(workspace)?;
    let mut steps = Steps::new(workspace);
    let result = steps_of(&workspace.examples(), extent, &lacking())
        .iter()
        .try_for_each(|step| steps.run(step));
    steps.print_summary();
    result
}

fn steps_of(examples: &[String], extent: Extent, lacking: &[&str]) -> Vec<Step> {
    let mut steps = vec![
        Step::new("format", "fmt --all --check"),
        compiled("lints and build", "test --workspace --all-targets --no-run"),
        tests(extent, lacking),
    ];
    if extent == Extent::Quick {
        return steps;
    }
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    steps.extend([
        one_thread(compiled(
            "doc tests",
            "test --workspace --doc --no-fail-fast",
        ))
        .counting_tests(),
        compiled("documentation", "doc --workspace --no-deps")
            .with_variable("RUSTDOCFLAGS", format!("{flags} -D warnings").trim_start()),
        Step::new("handbook", "xtask book"),
    ]);
    // Not of their package alone: with the features of the whole workspace, as the tests have built them.
    steps.extend(examples.iter().map(|name| {
        compiled(
            format!("example {name}"),
            &format!("run --quiet --example {name}"),
        )
    }));
    steps
}

fn tests(extent: Extent, lacking: &[&str]) -> Step {
    let quick: &[&str] = match extent {
        Extent::Quick => &["end_to_end::", "torture::"],
        Extent::Whole | Extent::Long => &[],
    };
    let left_out: String = lacking
        .iter()
        .chain(quick)
        .map(|name| format!(" --skip {name}"))
        .collect();
    let arguments = "test --workspace --lib --bins --tests --no-fail-fast -- --include-ignored";
    let step = one_thread(compiled("tests", &format!("{arguments}{left_out}")));
    let step = match extent {
        Extent::Long => step
            .with_variable("PROPTEST_CASES", "1024")
            .with_variable("PROPTEST_RNG_SEED", fresh_seed().to_string())
            .with_variable("LISEG_FUZZ_INPUTS", "120000"),
        Extent::Quick | Extent::Whole => step,
    };
    step.counting_tests()
}

/// The campaign of damage and kills at length.
pub(crate) fn torture(workspace: &Workspace, inputs: u64) -> Result {
    setup::run(workspace)?;
    let step = compiled(
        "torture",
        "test --workspace --test main torture:: -- --nocapture",
    );
    let step = one_thread(step).with_variable("LISEG_TORTURE", inputs.to_string());
    Steps::new(workspace).run(&step)
}

/// A number that no earlier run had; it is printed with the step, which repeats what was drawn.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// A step of cargo with clippy as the compiler of the workspace's crates. cargo keeps what other compilers built apart, so
/// that all steps must name the same one.
fn compiled(name: impl Into<String>, arguments: &str) -> Step {
    Step::new(name, arguments)
        .with_variable("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
        .with_variable("CLIPPY_ARGS", "-Dwarnings")
}

/// Tests run side by side, one for each core; torch's threads in each would wait for one another most of the time.
fn one_thread(step: Step) -> Step {
    step.with_variable("OMP_NUM_THREADS", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(extent: Extent, lacking: &[&str]) -> Vec<String> {
        let steps = steps_of(&["resample".to_owned()], extent, lacking);
        steps.iter().map(Step::typed).collect()
    }

    #[test]
    fn quick_leaves_out_documentation_examples_and_the_command() {
        let steps = typed(Extent::Quick, &[]);
        assert_eq!(steps.len(), 3);
        assert!(
            steps[2].ends_with("--skip end_to_end:: --skip torture::"),
            "{}",
            steps[2]
        );
        assert_eq!(typed(Extent::Whole, &[]).len(), 7);
    }

    #[test]
    fn tests_run_unless_what_they_need_is_lacking() {
        let all = &typed(Extent::Whole, &[])[2];
        assert!(all.ends_with(" -- --include-ignored"), "{all}");
        let some = &typed(Extent::Whole, &["browser::"])[2];
        assert!(
            some.ends_with("--include-ignored --skip browser::"),
            "{some}"
        );
    }

    #[test]
    fn a_long_run_draws_more_and_says_from_which_seed() {
        let whole = &typed(Extent::Whole, &[])[2];
        let long = &typed(Extent::Long, &[])[2];
        assert!(
            long.contains("PROPTEST_CASES=1024 PROPTEST_RNG_SEED="),
            "{long}"
        );
        assert!(!whole.contains("PROPTEST"), "{whole}");
    }
}
