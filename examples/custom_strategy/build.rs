//! Lets the program find the libtorch that it was built against.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(argument) = std::env::var("DEP_LISEG_LINK_ARG") {
        println!("cargo::rustc-link-arg={argument}");
    }
}
