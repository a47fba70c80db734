//! Lets programs find libtorch at run time.
//!
//! torch-sys tells its dependents where libtorch lies. This script turns that into a linker
//! argument for the packages that depend on liseg-nn, whose build scripts pass it to their own
//! programs and tests: a RUNPATH to libtorch's folder (`LD_LIBRARY_PATH` still goes first), and
//! `libtorch.so` whether or not a symbol of it is used, because it brings the CUDA libraries
//! along when that libtorch has them.
#![allow(
    clippy::print_stdout,
    reason = "build scripts speak to cargo on standard output"
)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Absent under tch's `doc-only`, where nothing is linked.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    let folder = std::path::absolute(&folder).map_or(folder, |p| p.display().to_string());
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let argument = match os.as_str() {
        "linux" => {
            // The second folder serves a program that was moved to where libtorch lies beside it.
            format!(
                "-Wl,--enable-new-dtags,-rpath,{folder},-rpath,$ORIGIN/libtorch/lib,\
                 --push-state,--no-as-needed,-ltorch,--pop-state"
            )
        }
        "macos" => format!("-Wl,-rpath,{folder}"),
        _ => return,
    };
    println!("cargo::rustc-link-arg={argument}");
    println!("cargo::metadata=LINK_ARG={argument}");
}
