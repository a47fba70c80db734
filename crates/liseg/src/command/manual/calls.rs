//! Calls of the command in the handbook, parsed: also those that no test can run.

use super::super::Arguments;
use clap::{CommandFactory, Parser};
use std::path::{Path, PathBuf};

/// The pages: the handbook, the front page, what comes with the examples.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = ["docs", "README.md", "CONTRIBUTING.md", "examples"]
        .map(|name| root.join(name))
        .to_vec();
    let mut pages = Vec::new();
    while let Some(at) = found.pop() {
        if at.is_dir() {
            found.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if at.extension().is_some_and(|e| e == "md") {
            let text = std::fs::read_to_string(&at).unwrap();
            pages.push((at, text));
        }
    }
    pages
}

/// The calls in the shell blocks of a page, each on one line.
fn calls(page: &str) -> Vec<String> {
    let mut calls = Vec::new();
    let mut shell = false;
    let mut begun = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            shell = line.starts_with("```sh");
        } else if shell && let Some(line) = line.strip_suffix('\\') {
            begun += line;
        } else if shell {
            let call = std::mem::take(&mut begun) + line;
            // A comment, what comes before in a loop, and what comes after.
            let call = call.split(" # ").next().unwrap_or_default();
            let call = call.split(" > ").next().unwrap_or_default();
            let call = call
                .split(['|', ';'])
                .find(|part| part.trim().starts_with("liseg "));
            calls.extend(call.map(|call| call.trim().to_owned()));
        }
    }
    calls
}

/// The words of a call; quotes go, variables stay as they are.
fn words(call: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in call.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), _) if c == q => quote = None,
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[test]
fn every_call_in_a_block_is_understood() {
    let mut seen = 0;
    for (page, text) in pages() {
        for call in calls(&text) {
            // What a shell would put there.
            let call = call.replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "1/2");
            let call = call
                .replace("$SLURM_ARRAY_TASK_ID", "1")
                .replace(" \"$@\"", "");
            let parsed = Arguments::try_parse_from(words(&call));
            let informs = parsed.as_ref().err().is_some_and(|e| e.exit_code() == 0);
            let problem = parsed.err().filter(|_| !informs);
            assert!(problem.is_none(), "{}: {call}\n{problem:?}", page.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} calls");
}

/// In the text, `liseg VERB … --option` names a verb and options that exist.
#[test]
fn verbs_and_options_in_the_text_exist() {
    let command = Arguments::command();
    let mut seen = 0;
    for (page, text) in pages() {
        let text = text.split("```").step_by(2).collect::<String>();
        for span in text.split('`').skip(1).step_by(2) {
            let span = span.split_whitespace().collect::<Vec<_>>();
            let [first, verb, rest @ ..] = span.as_slice() else {
                continue;
            };
            let verb = verb.trim_end_matches(['…', '|']);
            if *first != "liseg" || verb.starts_with('-') || verb == "VERB" {
                continue;
            }
            let found = command.find_subcommand(verb);
            let found = found.unwrap_or_else(|| panic!("{}: {span:?}", page.display()));
            let long = |name: &str| {
                let arguments = found.get_arguments().chain(command.get_arguments());
                let names = arguments.flat_map(|a| {
                    let also = a.get_all_aliases().unwrap_or_default();
                    a.get_long().into_iter().chain(also).collect::<Vec<_>>()
                });
                names.into_iter().any(|known| known == name)
            };
            for option in rest.iter().filter_map(|word| word.strip_prefix("--")) {
                let name = option
                    .split(['=', '…', ',', ';'])
                    .next()
                    .unwrap_or_default();
                let known = name.is_empty() || name == "help" || long(name);
                let within = found.get_subcommands().next().is_some();
                assert!(known || within, "{}: {span:?}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "only {seen} options");
}

#[test]
fn blocks_are_cut_into_calls() {
    let page = "```sh\nliseg info a.nii \\\n  b.nii   # two\nfor x in 1; do\n  liseg plan 'a b' --out \"p\"; done\n\
                ```\nliseg no\n```text\nliseg no\n```\n";
    let calls = calls(page);
    assert_eq!(
        calls,
        ["liseg info a.nii   b.nii", "liseg plan 'a b' --out \"p\""]
    );
    assert_eq!(words(&calls[1]), ["liseg", "plan", "a b", "--out", "p"]);
}
