//! Memory of tensors where pages are larger than here.

use std::path::Path;
use std::process::Command;

/// The test itself is C++, as what it tests: compiled by the compiler that compiled the shim.
#[test]
fn blocks_keep_to_pages_of_any_size() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blocks.cpp");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("blocks");
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let compiled = Command::new(compiler)
        .args(["-std=c++17", "-O1", "-o"])
        .arg(&program)
        .arg(here)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
    assert!(compiled.status.success(), "{said}");
    let run = Command::new(program).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}");
}
