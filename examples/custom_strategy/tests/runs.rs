//! The program does what it says, and ends well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn it_trains_is_interrupted_resumes_and_predicts() {
    let output = Command::new(env!("CARGO_BIN_EXE_custom_strategy"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{error}");
    assert!(
        said.contains("interrupted") && said.contains("1 mask written"),
        "{said}"
    );
}
