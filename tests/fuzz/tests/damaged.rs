//! Damaged input for every target, the same on every machine.
//!
//! An input that breaks a target is kept in `artifacts/`.

use liseg_fuzz::{TARGETS, mutate, seeds};
use liseg_volume::Seed;
use rand::RngExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Damaged inputs for all targets together, where LISEG_FUZZ_INPUTS does not say how many.
const INPUTS: u64 = 2_000;

fn inputs_of_a_target() -> u64 {
    let asked = std::env::var("LISEG_FUZZ_INPUTS").ok();
    let all = asked.map_or(INPUTS, |n| {
        n.parse().expect("LISEG_FUZZ_INPUTS is a number")
    });
    all.div_ceil(TARGETS.len() as u64)
}

#[test]
fn nifti() {
    withstands_all("nifti");
}

#[test]
fn nifti_pair() {
    withstands_all("nifti_pair");
}

#[test]
fn json() {
    withstands_all("json");
}

#[test]
fn toml() {
    withstands_all("toml");
}

#[test]
fn pytorch() {
    withstands_all("pytorch");
}

#[test]
fn safetensors() {
    withstands_all("safetensors");
}

fn withstands_all(name: &str) {
    // Memory is counted for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, target) = TARGETS
        .into_iter()
        .find(|(target, _)| *target == name)
        .expect("the target is listed");
    let seeds = seeds::of(name);
    assert!(
        !seeds.is_empty(),
        "nothing to begin with; is tests/fixtures there?"
    );
    for (i, input) in seeds.iter().enumerate() {
        let accepts = withstands(name, target, input, &format!("seed-{i}"));
        // Text that is refused from the start leads nowhere.
        assert!(
            accepts || !matches!(name, "json" | "toml"),
            "seed {i} is refused: it no longer is what the target reads"
        );
    }
    let (mut accepted, runs) = (0, inputs_of_a_target());
    for index in 0..runs {
        let mut rng = Seed(1).stream(name, 0, index);
        let input = &seeds[rng.random_range(0..seeds.len())];
        let other = &seeds[rng.random_range(0..seeds.len())];
        let damaged = mutate::damaged(input, other, &mut rng);
        accepted += usize::from(withstands(name, target, &damaged, &index.to_string()));
    }
    // Damage that everything survives, or nothing, tries nothing.
    assert!(
        (1..runs as usize).contains(&accepted),
        "{accepted} of {runs} damaged inputs accepted"
    );
}

/// Whether the target accepts the input.
fn withstands(name: &str, target: fn(&[u8]) -> bool, input: &[u8], which: &str) -> bool {
    if let Ok(accepts) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        return accepts;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let file = folder.join(format!("{name}-{which}"));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
    panic!(
        "input {which} broke the target; kept in {}: {kept:?}",
        file.display()
    );
}
