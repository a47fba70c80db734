//! Lets the programs and tests of this package, and of those that depend on it, find libtorch (see
//! `crates/liseg-nn/build.rs`), and tells `liseg --version` what it was built from.
#![allow(
    clippy::print_stdout,
    reason = "build scripts speak to cargo on standard output"
)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(argument) = std::env::var("DEP_LISEG_NN_LINK_ARG") {
        println!("cargo::rustc-link-arg={argument}");
        // Cargo tells it to direct dependents alone.
        println!("cargo::metadata=LINK_ARG={argument}");
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let rustc = variable("RUSTC");
    // Packages from a registry have no repository; their version says it all.
    let facts = [
        (
            "LISEG_COMMIT",
            first_line("git", &["rev-parse", "--short=12", "HEAD"]),
        ),
        ("LISEG_RUSTC", first_line(&rustc, &["--version"])),
        ("LISEG_TARGET", variable("TARGET")),
        ("LISEG_PROFILE", variable("PROFILE")),
    ];
    // While developing, another commit alone is not worth building the program again.
    if variable("PROFILE") == "release" {
        let log = first_line("git", &["rev-parse", "--git-path", "logs/HEAD"]);
        if std::path::Path::new(&log).exists() {
            println!("cargo::rerun-if-changed={log}");
        }
    }
    for (name, value) in facts {
        println!("cargo::rustc-env={name}={value}");
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    let line = text.as_deref().and_then(|text| text.lines().next());
    line.unwrap_or("unknown").to_owned()
}
