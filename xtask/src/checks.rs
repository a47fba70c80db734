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
use crate::tally::Runner;
use crate::workspace::Workspace;

/// How the names of tests begin that are `#[ignore]`d and need what this machine lacks.
fn lacking() -> Vec<&'static str> {
    // Under the names that the test looks for.
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let needs = [
        ("data_packs::", env::var_os("LISEG_DATA").is_some()),
        ("browser::", names.into_iter().any(is_on_path)),
    ];
    let lacking = needs.iter().filter(|(_, is_there)| !is_there);
    lacking.map(|(name, _)| *name).collect()
}

fn is_on_path(name: &str) -> bool {
    on_path(name, env::var_os("PATH").as_deref()).is_some()
}

/// # Errors
/// When a step fails; the table of times is printed all the same.
pub(crate) fn run(workspace: &Workspace, extent: Extent) -> Result {
    setup::run(workspace)?;
    let runner = match is_on_path("cargo-nextest") {
        true => Runner::Nextest,
        false => Runner::Libtest,
    };
    let mut steps = Steps::new(workspace);
    let result = steps_of(&workspace.examples(), extent, runner, &lacking())
        .iter()
        .try_for_each(|step| steps.run(step));
    steps.print_summary();
    result
}

fn steps_of(examples: &[String], extent: Extent, runner: Runner, lacking: &[&str]) -> Vec<Step> {
    let mut steps = vec![
        Step::new("format", "fmt --all --check"),
        compiled("lints and build", "test --workspace --all-targets --no-run"),
        tests(extent, runner, lacking),
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
        .counting_tests(Runner::Libtest),
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
    steps.push(compiled(
        "example custom_strategy",
        "run --quiet --bin custom_strategy",
    ));
    steps
}

fn tests(extent: Extent, runner: Runner, lacking: &[&str]) -> Step {
    let mut arguments = match runner {
        Runner::Nextest => "nextest run --workspace --no-fail-fast --run-ignored all".to_owned(),
        Runner::Libtest => "test --workspace --lib --bins --tests --no-fail-fast".to_owned(),
    };
    let mut left_out: Vec<String> = Vec::new();
    match runner {
        Runner::Nextest => {
            left_out.extend(lacking.iter().map(|name| format!("test(/^{name}/)")));
            if extent == Extent::Quick {
                left_out.push("binary_id(liseg::main)".to_owned());
            }
            if !left_out.is_empty() {
                left_out = vec!["-E".into(), format!("not ({})", left_out.join(" | "))];
            }
        }
        Runner::Libtest => {
            if extent == Extent::Quick {
                arguments.push_str(" --exclude liseg");
            }
            left_out.extend(["--".to_owned(), "--include-ignored".to_owned()]);
            left_out.extend(
                lacking
                    .iter()
                    .flat_map(|name| ["--skip".into(), (*name).to_owned()]),
            );
        }
    }
    let step = one_thread(compiled("tests", &arguments).with_arguments(&left_out));
    let step = match extent {
        Extent::Long => step
            .with_variable("PROPTEST_CASES", "1024")
            .with_variable("PROPTEST_RNG_SEED", fresh_seed().to_string())
            .with_variable("LISEG_FUZZ_INPUTS", "120000"),
        Extent::Quick | Extent::Whole => step,
    };
    step.counting_tests(runner)
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

/// Tests run side by side, one process for each core; torch's threads in each would wait for one another most of the time.
fn one_thread(step: Step) -> Step {
    step.with_variable("OMP_NUM_THREADS", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(extent: Extent, runner: Runner, lacking: &[&str]) -> Vec<String> {
        let examples = ["resample".to_owned()];
        let steps = steps_of(&examples, extent, runner, lacking);
        steps.iter().map(Step::typed).collect()
    }

    #[test]
    fn quick_leaves_out_documentation_examples_and_the_command() {
        let steps = typed(Extent::Quick, Runner::Nextest, &[]);
        assert_eq!(steps.len(), 3);
        assert!(
            steps[2].ends_with("-E 'not (binary_id(liseg::main))'"),
            "{}",
            steps[2]
        );
        let whole = typed(Extent::Whole, Runner::Nextest, &[]);
        assert_eq!(whole.len(), 8);
        assert!(whole[2].ends_with("--run-ignored all"), "{}", whole[2]);
    }

    #[test]
    fn tests_run_unless_what_they_need_is_lacking() {
        let all = typed(Extent::Whole, Runner::Libtest, &[]);
        assert!(all[2].ends_with("-- --include-ignored"), "{}", all[2]);
        let lacking = typed(Extent::Whole, Runner::Libtest, &["browser::"]);
        assert!(
            lacking[2].ends_with("--include-ignored --skip browser::"),
            "{}",
            lacking[2]
        );
        let lacking = typed(
            Extent::Whole,
            Runner::Nextest,
            &["browser::", "data_packs::"],
        );
        let filter = "-E 'not (test(/^browser::/) | test(/^data_packs::/))'";
        assert!(lacking[2].ends_with(filter), "{}", lacking[2]);
    }

    #[test]
    fn a_long_run_draws_more_and_says_from_which_seed() {
        let whole = &typed(Extent::Whole, Runner::Nextest, &[])[2];
        let long = &typed(Extent::Long, Runner::Nextest, &[])[2];
        assert!(
            long.contains("PROPTEST_CASES=1024 PROPTEST_RNG_SEED="),
            "{long}"
        );
        assert!(!whole.contains("PROPTEST"), "{whole}");
    }
}
