//! `write_seeds TARGET FOLDER` writes what a target begins with, for libFuzzer.

use liseg_fuzz::seeds;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = &words[..] else {
        eprintln!("usage: write_seeds TARGET FOLDER");
        return ExitCode::from(2);
    };
    let folder = Path::new(folder);
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
