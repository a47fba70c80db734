//! What must hold for every input, however damaged: an answer or a typed error, never a panic, an
//! endless loop or memory that the input cannot account for; and what was read comes back from what
//! is written.
//!
//! Each target is a plain function. libFuzzer drives them at length (`cargo xtask fuzz TARGET`), the
//! program `short` drives them for some seconds in `cargo xtask test`.

mod configs;
mod memory;
pub mod mutate;
mod nifti;
pub mod seeds;
mod weights;

pub use configs::{json, toml};
pub use nifti::{nifti, nifti_pair};
pub use weights::{pytorch, safetensors};

/// A target and its name. It tells whether the input was accepted.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("nifti", nifti),
    ("nifti_pair", nifti_pair),
    ("json", json),
    ("toml", toml),
    ("pytorch", pytorch),
    ("safetensors", safetensors),
];

/// Writes the input to files in a folder that lasts as long as the thread.
fn with_folder<T>(work: impl FnOnce(&std::path::Path) -> T) -> T {
    thread_local! {
        // In memory where that is possible: every write is followed by a sync.
        static FOLDER: tempfile::TempDir = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a temporary folder can be made");
    }
    FOLDER.with(|folder| work(folder.path()))
}

fn write(path: &std::path::Path, data: &[u8]) {
    std::fs::write(path, data).expect("a temporary file can be written");
}
