//! Compiles the shim and lets programs find libtorch at run time.
//!
//! `shim/*.cpp` is compiled against the headers that lie beside the libraries torch-sys links.
//!
//! torch-sys tells its dependents where libtorch lies. This script turns that into a linker
//! argument for the packages that depend on liseg-nn, whose build scripts pass it to their own
//! programs and tests: a RUNPATH to libtorch's folder (`LD_LIBRARY_PATH` still goes first). The CUDA
//! libraries are not linked: `runtime::cuda_devices` loads them where there is a driver.
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
    compile_shim(std::path::Path::new(&folder));
    let folder = std::path::absolute(&folder).map_or(folder, |p| p.display().to_string());
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let argument = match os.as_str() {
        "linux" => {
            // The second folder serves a program that was moved to where libtorch lies beside it.
            format!("-Wl,--enable-new-dtags,-rpath,{folder},-rpath,$ORIGIN/libtorch/lib")
        }
        "macos" => format!("-Wl,-rpath,{folder}"),
        _ => return,
    };
    println!("cargo::rustc-link-arg={argument}");
    println!("cargo::metadata=LINK_ARG={argument}");
}

/// Compiles what tch does not bind. `LIBTORCH_INCLUDE` and `LIBTORCH_CXX11_ABI` mean what they mean to
/// torch-sys.
fn compile_shim(libraries: &std::path::Path) {
    println!("cargo::rerun-if-changed=shim");
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let root = std::env::var_os("LIBTORCH_INCLUDE")
        .map_or_else(|| libraries.join(".."), std::path::PathBuf::from);
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .std("c++17")
        .warnings(false)
        .opt_level(1)
        .debug(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(["shim/shim.cpp", "shim/memory.cpp"])
        .compile("liseg_shim");
}
