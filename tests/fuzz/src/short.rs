//! Some seconds of damaged input for every target; the same on every machine.
//!
//! `short [RUNS] [SEED]`: damaged inputs for each target, 20000 by default, and the seed, 1 by default.
//! An input that breaks a target is kept in `artifacts/`.
//!
//! `short seeds TARGET FOLDER` writes what a target begins with, for libFuzzer.

use liseg_fuzz::{TARGETS, Target, mutate, seeds};
use liseg_volume::Seed;
use rand::RngExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |at: usize, default| words.get(at).map_or(Ok(default), |word| word.parse());
    if let ["seeds", target, folder] = words[..] {
        return write_seeds(target, Path::new(folder));
    }
    let (Ok(runs), Ok(seed)) = (number(0, 20_000), number(1, 1)) else {
        eprintln!("usage: short [RUNS] [SEED], or short seeds TARGET FOLDER");
        return ExitCode::from(2);
    };
    let sound = TARGETS
        .iter()
        .filter(|target| run(target, runs, Seed(seed)));
    let failed = TARGETS.len() - sound.count();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("{failed} targets failed");
        ExitCode::FAILURE
    }
}

fn write_seeds(target: &str, folder: &Path) -> ExitCode {
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut seeds = seeds::of(target).into_iter().enumerate();
        seeds.try_for_each(|(i, seed)| std::fs::write(folder.join(format!("seed-{i}")), seed))
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether the target withstood all its inputs.
fn run(&(name, target): &Target, runs: u64, seed: Seed) -> bool {
    let begun = Instant::now();
    let seeds = seeds::of(name);
    if seeds.is_empty() {
        eprintln!("{name}: nothing to begin with; is tests/fixtures there?");
        return false;
    }
    let (mut sound, mut accepted) = (0, 0);
    for (i, input) in seeds.iter().enumerate() {
        let Some(accepts) = withstands(name, target, input, &format!("seed-{i}")) else {
            return false;
        };
        sound += usize::from(accepts);
        // Text that is refused from the start leads nowhere.
        if !accepts && matches!(name, "json" | "toml") {
            eprintln!("{name}: seed {i} is refused: it no longer is what the target reads");
            return false;
        }
    }
    for index in 0..runs {
        let mut rng = seed.stream(name, 0, index);
        let input = &seeds[rng.random_range(0..seeds.len())];
        let other = &seeds[rng.random_range(0..seeds.len())];
        let damaged = mutate::damaged(input, other, &mut rng);
        match withstands(name, target, &damaged, &index.to_string()) {
            Some(accepts) => accepted += usize::from(accepts),
            None => return false,
        }
    }
    println!(
        "{name}: {} inputs ({sound} accepted) and {runs} damaged ones ({accepted} accepted) in {:.1} s",
        seeds.len(),
        begun.elapsed().as_secs_f64()
    );
    true
}

/// Whether the target accepts the input; `None` when it breaks.
fn withstands(name: &str, target: fn(&[u8]) -> bool, input: &[u8], which: &str) -> Option<bool> {
    if let Ok(accepts) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        return Some(accepts);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let file = folder.join(format!("{name}-{which}"));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input)) {
        Ok(()) => eprintln!("{name}: kept the input in {}", file.display()),
        Err(error) => eprintln!("{name}: cannot keep the input: {error}"),
    }
    None
}
