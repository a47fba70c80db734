//! A process that is killed at any of its writes, or finds the disk full, goes on when it is called again, and ends with the
//! same bits.

use super::{Ended, FULL, run_with};
use crate::common::{shared, write_dataset};
use liseg::nn::checkpoint;
use liseg::volume::Seed;
use rand::RngExt;
use std::collections::BTreeMap;
use std::path::Path;

/// What must be the same however the work was done: names, and bytes.
type Made = BTreeMap<String, Vec<u8>>;

/// Work that is killed and called again.
struct Verb {
    name: &'static str,
    prepare: fn(&Path),
    call: &'static [&'static str],
    /// What the second call has more.
    again: &'static [&'static str],
    made: fn(&Path) -> Made,
}

const PREPROCESS: Verb = Verb {
    name: "preprocess",
    prepare: |folder| {
        shared::copy_folder(&shared::study().join("dataset"), &folder.join("dataset"))
    },
    call: &[
        "preprocess",
        "dataset",
        "--out",
        "out",
        "--spacing",
        "8,6,6",
        "--patch",
        "16,32,32",
    ],
    again: &[],
    made: |folder| files(&folder.join("out")),
};

const PREDICT: Verb = Verb {
    name: "predict",
    prepare: |folder| {
        shared::copy_folder(&shared::study().join("runs/cps"), &folder.join("run"));
        shared::copy_folder(
            &shared::study().join("dataset/imagesTs"),
            &folder.join("images"),
        );
    },
    call: &[
        "predict",
        "--run",
        "run",
        "--input",
        "images",
        "--output",
        "out",
        "--uncertainty",
        "--probabilities",
    ],
    again: &["--resume"],
    made: |folder| files(&folder.join("out")),
};

const TRAIN: Verb = Verb {
    name: "train",
    prepare: |folder| {
        shared::copy_folder(&shared::study().join("data"), &folder.join("data"));
        let config = "data = \"data\"\nnetwork.widths = [4, 4, 8, 8, 8, 8]\n\
                      training = { epochs = 3, iterations_per_epoch = 1 }\n\
                      validation = { folds = 2, every = 1 }\n";
        std::fs::write(folder.join("run.toml"), config).unwrap();
    },
    call: &["train", "run.toml", "--out", "out"],
    again: &["--resume"],
    made: |folder| {
        let mut made = Made::new();
        for name in ["last", "best"] {
            let file = folder.join(format!("out/checkpoints/{name}.safetensors"));
            made.extend(tensors(name, &file));
        }
        for name in [
            "config.toml",
            "postprocessing.json",
            "validation/postprocessing.json",
        ] {
            made.insert(
                name.into(),
                std::fs::read(folder.join("out").join(name)).unwrap(),
            );
        }
        made
    },
};

const EXPERIMENT: Verb = Verb {
    name: "experiment",
    prepare: |folder| {
        write_dataset(folder);
        let config = "name = \"tiny\"\n[datasets.target]\npath = \"Dataset007_Tiny\"\n\
                      plan = { patch_size = [16, 32, 32] }\n[evaluate]\nreplicates = 100\n\
                      [run]\nprecision = \"f32\"\nnetwork.widths = [4, 4, 8, 8, 8, 8]\n\
                      training = { epochs = 1, iterations_per_epoch = 1 }\n\
                      [[variants]]\nname = \"CPS\"\nset.strategy.name = \"cps\"\n";
        std::fs::write(folder.join("tiny.toml"), config).unwrap();
    },
    call: &["experiment", "tiny.toml", "--out", "out"],
    again: &[],
    made: |folder| {
        let masks = ["table.csv", "cases.csv", "runs"];
        let mut made = files(&folder.join("out"));
        made.retain(|name, _| {
            masks.iter().any(|part| name.starts_with(part))
                && (name.ends_with(".csv")
                    || name.contains("/masks/")
                    || name.ends_with("/metrics.json"))
        });
        made
    },
};

/// Every file below a folder that is not hidden.
fn files(folder: &Path) -> Made {
    let mut found = Made::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(rest, bytes)| (format!("{name}/{rest}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn tensors(prefix: &str, file: &Path) -> Made {
    let (tensors, _) = checkpoint::read(file).unwrap();
    let bytes = |tensor: liseg::nn::tch::Tensor| {
        let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes
    };
    tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}/{name}"), bytes(tensor)))
        .collect()
}

impl Verb {
    fn run(&self, folder: &Path, more: &[&str], fault: Option<(&str, u64)>) -> Ended {
        let fault = fault.map(|(name, write)| (name, write.to_string()));
        let call = [self.call, more].concat();
        let ended = run_with(&call, folder, fault.as_slice());
        if fault.is_none() {
            assert_eq!(ended.code, Some(0), "{}: {}", self.name, ended.stderr);
        }
        ended
    }

    /// What the work makes when nothing disturbs it.
    fn undisturbed(&self) -> Made {
        let folder = tempfile::tempdir().unwrap();
        (self.prepare)(folder.path());
        self.run(folder.path(), &[], None);
        (self.made)(folder.path())
    }

    /// Disturbs the work at a write, looks at how it ended, and calls it again.
    fn withstands_once(&self, fault: (&str, u64), expected: &Made, look: impl FnOnce(&Ended)) {
        let folder = tempfile::tempdir().unwrap();
        (self.prepare)(folder.path());
        let ended = self.run(folder.path(), &[], Some(fault));
        look(&ended);
        if ended.code != Some(0) {
            self.run(folder.path(), self.again, None);
        }
        let made = (self.made)(folder.path());
        let what = format!("{} with {}={}", self.name, fault.0, fault.1);
        let names = |made: &Made| made.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&made), names(expected), "{what}");
        for (name, bytes) in &made {
            assert!(bytes == &expected[name], "{what}: {name} differs");
        }
    }

    /// Kills the work at a write and calls it again; false when there were not so many writes.
    fn killed_at(&self, write: u64, expected: &Made) -> bool {
        let mut killed = false;
        self.withstands_once(("LISEG_KILL_AT_WRITE", write), expected, |ended| {
            killed = ended.code.is_none();
        });
        killed
    }

    /// Works on a disk that is full from a write on, and again when there is room.
    fn outlives_a_full_disk(&self, write: u64, expected: &Made) {
        self.withstands_once(("LISEG_FULL_AT_WRITE", write), expected, |ended| {
            let clear = ended.code == Some(1) && ended.stderr.matches(FULL).count() == 1;
            assert!(clear, "{} at write {write}: {}", self.name, ended.stderr);
        });
    }

    /// At every write, or at a few that are drawn.
    fn withstands(&self, few: u64) {
        let expected = self.undisturbed();
        self.outlives_a_full_disk(3, &expected);
        if std::env::var("LISEG_TORTURE").is_ok() {
            let writes = (1..)
                .take_while(|&write| self.killed_at(write, &expected))
                .count();
            eprintln!("{}: killed at each of {writes} writes", self.name);
            assert!(writes > 0);
            return;
        }
        let mut rng = Seed(13).stream(self.name, 0, 0);
        // The first ones are certain to be reached.
        let mut killed = u64::from(self.killed_at(1, &expected));
        for _ in 1..few {
            killed += u64::from(self.killed_at(rng.random_range(2..=10), &expected));
        }
        assert!(killed >= few / 2, "{}: only {killed} kills", self.name);
    }
}

#[test]
fn preprocess() {
    PREPROCESS.withstands(6);
}

#[test]
fn predict() {
    PREDICT.withstands(4);
}

#[test]
fn train() {
    TRAIN.withstands(6);
}

#[test]
fn experiment() {
    EXPERIMENT.withstands(4);
}
