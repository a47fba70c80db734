//! Every command of the handbook does what its page says.
//!
//! The `sh` blocks of a page run one after another in an empty folder, as a reader would type them. In a
//! page, unseen by its reader,
//! - `<!-- test: A -> B -->` replaces A by B before the blocks run, to shorten trainings;
//! - `<!-- test-setup`, to the line `-->`, are commands that run at this place: data that a reader has.
//!
//! A block `sh,setup` is for the reader's machine only, and one `sh,ignore` needs what no test has, as its
//! page says; their calls of `liseg` are at least parsed, in the unit tests of the command.
#![cfg(unix)]

use crate::common::shared::study;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What set-ups may call: a small dataset, a run on it, and settings with which a training takes seconds.
const PRELUDE: &str = r#"
small="--set network.widths=[4,4,8,8,8,8] --set training.epochs=1 --set training.iterations_per_epoch=2"
dataset() { cp -r "$study/dataset" "$1"; }
data() { dataset "$1"; cp -r "$study/data" data; }
config() { printf 'data = "data"\n[network]\n[strategy]\nname = "%s"\n' "$1" > "$1.toml"; }
run() { config "$1"; mkdir -p runs; cp -r "$study/runs/$1" "runs/$1"; }
"#;

macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        /// The pages whose commands run.
        const PAGES: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $test() {
                run($page);
            }
        )*
    };
}

pages! {
    the_front_page: "../README.md",
    the_tutorial: "tutorial.md",
    your_own_data: "your-own-data.md",
    importing: "how-to/import.md",
    liqa_from_download_to_submission: "how-to/liqa.md",
    phases_without_labels: "how-to/phases-without-labels.md",
    predicting: "how-to/predicting.md",
    gpu_and_memory: "how-to/gpu-and-memory.md",
    a_cluster: "how-to/cluster.md",
    reproducibility: "how-to/reproducibility.md",
    augmentation: "augmentation.md",
    the_phantom: "explanation/phantom.md",
    strategies: "explanation/strategies.md",
    metrics: "explanation/metrics.md",
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The pages of the handbook.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![docs()];
    let mut pages = Vec::new();
    while let Some(at) = found.pop() {
        if at.is_dir() {
            found.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if at.extension().is_some_and(|e| e == "md") {
            pages.push(at);
        }
    }
    pages.sort();
    pages
}

/// The lines of a page's blocks between a line `opening` and a line `closing`.
fn blocks(page: &str, opening: &str, closing: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if inside && line == closing {
            inside = false;
        } else if inside {
            let block: &mut String = blocks.last_mut().unwrap();
            block.push_str(line);
            block.push('\n');
        } else if line == opening {
            inside = true;
            blocks.push(String::new());
        }
    }
    blocks
}

/// The commands of a page, as one script.
fn script(page: &str) -> String {
    let mut commands = String::new();
    let mut until = None;
    for line in page.lines() {
        match (until, line) {
            (None, "```sh") => until = Some("```"),
            (None, "<!-- test-setup") => until = Some("-->"),
            (Some(end), _) if line == end => until = None,
            (Some(_), _) => commands += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    for (what, by) in replacements(page) {
        assert!(commands.contains(what), "no command has `{what}`");
        commands = commands.replace(what, by);
    }
    commands
}

fn replacements(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| {
        let inner = line.strip_prefix("<!-- test: ")?.strip_suffix(" -->")?;
        inner.split_once(" -> ")
    })
}

fn run(name: &str) {
    let page = std::fs::read_to_string(docs().join(name)).unwrap();
    let script = script(&page);
    assert!(!script.is_empty(), "{name} has no commands");
    run_script(name, &script);
}

/// Runs commands in an empty folder, which it gives back.
fn run_script(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Paths of the repository that pages name.
    let examples = docs().join("../examples");
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_liseg")).parent().unwrap();
    let mut path = OsString::from(program);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{PRELUDE}{script}")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("study", study())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}\n{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    folder
}

/// The page about files names every field of the files that a run and an evaluation leave.
#[test]
fn the_page_about_files_names_their_fields() {
    let page = std::fs::read_to_string(docs().join("reference/files.md")).unwrap();
    let script = "data D\nliseg split D --validation 1\nrun cps\nmkdir images references\ncp D/imagesTs/*GED4* images\ncp D/labelsTs/*GED4* references\n\
                  liseg predict --model runs/cps --input images --output masks --uncertainty\n\
                  liseg evaluate --predictions masks --references references --out metrics.json";
    let folder = run_script("files", script);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let mut fields: Vec<String> = read("masks/uncertainty.csv")
        .lines()
        .next()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .unwrap();
    for file in [
        "D/cases.json",
        "D/dataset.json",
        "D/splits_final.json",
        "data/plan.json",
        "data/store.json",
        "runs/cps/manifest.json",
        "runs/cps/metrics.jsonl",
        "metrics.json",
    ] {
        let value: serde_json::Value = serde_json::from_str(&read(file)).unwrap();
        let object = value.as_object().or_else(|| value[0].as_object()).unwrap();
        fields.extend(object.keys().cloned());
    }
    assert!(fields.len() > 40, "{fields:?}");
    for field in fields {
        assert!(page.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn the_commands_of_every_page_run() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(docs()).unwrap().to_str().unwrap();
        let has_commands = !blocks(&text, "```sh", "```").is_empty();
        assert_eq!(has_commands, PAGES.contains(&name), "{name}");
    }
}

/// Parts of a config are read as `liseg train` reads them, and lists of cases are JSON.
#[test]
fn configs_and_json_of_every_page_are_read() {
    let mut read = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&text, "```toml", "```") {
            let block = match block.contains("data =") {
                true => block,
                false => format!("data = \"data\"\n{block}"),
            };
            let config = toml::from_str::<liseg::engine::RunConfig>(&block);
            assert!(config.is_ok(), "{}\n{block}{config:?}", page.display());
            read += 1;
        }
        for block in blocks(&text, "```json", "```") {
            let value = serde_json::from_str::<serde_json::Value>(&block);
            assert!(value.is_ok(), "{}\n{block}", page.display());
            read += 1;
        }
    }
    assert!(read >= 5, "only {read} blocks");
}

/// Pages that link to a file or another page name one that exists.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut seen = 0;
    for at in pages() {
        let text = std::fs::read_to_string(&at).unwrap();
        for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            seen += 1;
            let linked = at.parent().unwrap().join(file);
            assert!(linked.exists(), "{} links to {target}", at.display());
        }
    }
    assert!(seen > 10, "only {seen} links found");
}

/// A page that the contents do not name is not part of the book.
#[test]
fn the_contents_name_every_page() {
    let contents = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    for page in pages() {
        let name = page.strip_prefix(docs()).unwrap().to_str().unwrap();
        let linked = contents.contains(&format!("({name})"));
        assert!(linked || name == "SUMMARY.md", "SUMMARY.md lacks {name}");
    }
}
