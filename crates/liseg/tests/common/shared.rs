//! What many tests begin with: made once for a build of the command, and copied from there.

use super::{liseg, path, stderr, write_dataset};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

/// The tiny dataset and, in `data`, its preprocessed cases.
pub(super) fn tiny() -> PathBuf {
    shared("tiny", |folder| {
        let dataset = write_dataset(folder);
        let data = folder.join("data");
        let patch = ["--patch", "16,32,32"];
        let call = ["preprocess", path(&dataset), "--out", path(&data)];
        let output = liseg(&[&call[..], &patch].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    })
}

/// A study on a phantom: `dataset`, preprocessed in `data`, and a run of two steps in `runs/cps`.
pub(crate) fn study() -> PathBuf {
    const CALLS: [&str; 3] = [
        "phantom --out dataset --patients 3 --labelled 2 --test 1 --resolution tiny",
        "preprocess dataset --spacing 8,6,6 --patch 16,32,32 --out data",
        "train cps.toml --out runs/cps --set network.widths=[4,4,8,8,8,8] --set training.epochs=1 \
         --set training.iterations_per_epoch=2",
    ];
    shared("study", |folder| {
        let config = "data = \"data\"\n[network]\n[strategy]\nname = \"cps\"\n";
        fs::write(folder.join("cps.toml"), config).unwrap();
        for call in CALLS {
            let output = Command::new(env!("CARGO_BIN_EXE_liseg"))
                .args(call.split_whitespace())
                .args(["--quiet", "--threads", "1", "--device", "cpu"])
                .current_dir(folder)
                .output()
                .unwrap();
            assert!(output.status.success(), "{call}: {}", stderr(&output));
        }
    })
}

/// The folder that `make` fills for whichever test asks first, while the others wait. Nothing is written into it later.
fn shared(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let built = |program: &Path| {
        let modified = fs::metadata(program).unwrap().modified().unwrap();
        modified.duration_since(UNIX_EPOCH).unwrap().as_nanos()
    };
    // Of the command, and of this program, which says what is made.
    let built = format!(
        "{}-{}",
        built(Path::new(env!("CARGO_BIN_EXE_liseg"))),
        built(&std::env::current_exe().unwrap())
    );
    let of_all_builds = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared");
    fs::create_dir_all(&of_all_builds).unwrap();
    let lock = File::create(of_all_builds.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let made = of_all_builds.join(format!("{name}-{built}"));
    if !made.exists() {
        // What an earlier build made says nothing about this one; what was not finished is nobody's.
        for other in fs::read_dir(&of_all_builds).unwrap() {
            let other = other.unwrap();
            if other
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{name}-"))
            {
                fs::remove_dir_all(other.path()).unwrap();
            }
        }
        let unfinished = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&of_all_builds)
            .unwrap();
        make(unfinished.path());
        fs::rename(unfinished.keep(), &made).unwrap();
    }
    made
}

/// Copies a folder and all in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
