//! Lets the programs and tests of this package find libtorch (see `crates/liseg-nn/build.rs`).
#![allow(
    clippy::print_stdout,
    reason = "build scripts speak to cargo on standard output"
)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(argument) = std::env::var("DEP_LISEG_NN_LINK_ARG") {
        println!("cargo::rustc-link-arg={argument}");
    }
}
