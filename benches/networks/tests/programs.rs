//! The programs of this package do their work on a small scale.

use std::process::Command;

fn output(program: &str, arguments: &[&str]) -> std::io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout))
}

#[test]
fn a_network_is_timed() {
    let program = env!("CARGO_BIN_EXE_network_speed");
    let found = output(program, &["--patch", "32,32,32", "--threads", "1"]).unwrap();
    let figure = |name: &str| -> f64 {
        let (_, rest) = found.split_once(&format!("\"{name}\": ")).unwrap();
        let end = rest.find([',', '}']).unwrap();
        rest[..end].parse().unwrap()
    };
    assert!((figure("parameters") - 14_545_338.0).abs() < 0.5, "{found}");
    let step = figure("train_s");
    assert!(
        0.0 < figure("predict_s") && figure("predict_s") < step,
        "{found}"
    );
    let parts = figure("of_that_optimiser_s") + figure("of_that_losses_s");
    assert!(0.0 < parts && parts < step, "{found}");
    assert!(figure("peak_gb") > 0.05, "{found}");
}

#[test]
fn without_a_gpu_there_is_nothing_to_compare_and_that_is_said() {
    let program = env!("CARGO_BIN_EXE_gpu_check");
    let text = output(program, &[]).unwrap();
    assert!(text.contains("GPU") || text.contains("CUDA"), "{text}");
}
