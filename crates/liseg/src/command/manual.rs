//! The pages of the handbook that are written from the code: the command from its own help, and configs.

mod calls;
mod config;

use super::Arguments;
use clap::{Command, CommandFactory};
use std::fmt::Write;

/// Every verb with its arguments and options, as Markdown.
pub(crate) fn markdown() -> String {
    let mut command = Arguments::command()
        .disable_help_subcommand(true)
        .term_width(96);
    command.build();
    let mut page = String::from(
        "# The command\n\nWritten from the command's own help; `liseg VERB --help` says the same. Exit status: 0 all done; 1 \
         something\nfailed or was stopped, and what could be done is done; 2 the call or the config is wrong; 130 ended by a second Ctrl-C; 141 \
         nobody\nread the result to its end.\n",
    );
    for verb in command.get_subcommands_mut() {
        section(verb, &mut page);
    }
    page
}

fn section(verb: &mut Command, page: &mut String) {
    let name = verb.get_bin_name().unwrap_or(verb.get_name()).to_owned();
    let help = verb.render_long_help().to_string();
    let own = help.split("Options of every verb:").next().unwrap_or(&help);
    let text: Vec<&str> = own.lines().map(str::trim_end).collect();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\n## `{name}`\n\n```text\n{}\n```\n",
        text.join("\n").trim_end()
    );
    for verb in verb.get_subcommands_mut() {
        if verb.get_name() != "help" {
            section(verb, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_says_more_than_the_list_of_verbs() {
        let mut command = Arguments::command();
        command.build();
        let of_one_line = ["doctor", "info", "manual", "help"];
        for verb in command.get_subcommands_mut() {
            let name = verb.get_name().to_owned();
            let line = verb
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(!line.is_empty() && !line.contains('\n'), "{name}: {line}");
            let help = verb.render_long_help().to_string();
            let description = help.split("Usage:").next().unwrap_or_default().trim();
            if !of_one_line.contains(&name.as_str()) {
                assert!(description.len() > line.len() + 40, "{name}: {description}");
            }
        }
    }

    /// `LISEG_WRITE_MANUAL=1 cargo test -p liseg --bins manual` writes the page anew.
    #[test]
    fn the_handbook_has_the_help_of_today() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/command.md"
        );
        if std::env::var_os("LISEG_WRITE_MANUAL").is_some() {
            std::fs::write(file, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/reference/command.md is out of date; LISEG_WRITE_MANUAL=1 cargo test -p liseg --bins manual"
        );
    }
}
