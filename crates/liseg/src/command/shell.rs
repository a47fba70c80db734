//! `liseg completions` and `liseg manual`.

use super::{Arguments, Failure, Outcome, Result, say, terminal};
use clap::CommandFactory;
use std::path::{Path, PathBuf};

/// Print a script that completes the command's verbs and options in a shell.
///
/// `liseg completions bash > ~/.local/share/bash-completion/completions/liseg`, or for zsh into a file
/// `_liseg` of a folder in `fpath`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Outcome {
        let mut command = Arguments::command();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "liseg", &mut script);
        terminal::pass_on(&script);
        Outcome::Done
    }
}

/// Write man pages of the command and of every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Manual {
    /// Folder for the pages, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "DIR", default_value = "man")]
    out: PathBuf,
}

impl Manual {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let failed =
            |path: &Path, e: std::io::Error| Failure::work(format!("{}: {e}", path.display()));
        std::fs::create_dir_all(&self.out).map_err(|e| failed(&self.out, e))?;
        let mut command = Arguments::command();
        command.build();
        let mut pages = 1;
        write_page(&command, "liseg", &self.out).map_err(|e| failed(&self.out, e))?;
        for verb in command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
        {
            let name = format!("liseg-{}", verb.get_name());
            write_page(verb, &name, &self.out).map_err(|e| failed(&self.out, e))?;
            pages += 1;
        }
        say!("{pages} pages in {}", self.out.display());
        Ok(Outcome::Done)
    }
}

fn write_page(command: &clap::Command, name: &str, folder: &Path) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)?;
    liseg_file::write(folder.join(format!("{name}.1")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_gets_a_page_and_completions() {
        let folder = tempfile::tempdir().unwrap();
        let manual = Manual {
            out: folder.path().to_owned(),
        };
        manual.run().unwrap();
        let page = std::fs::read_to_string(folder.path().join("liseg-predict.1")).unwrap();
        assert!(page.contains("max\\-memory"), "{page}");
        let verbs = Arguments::command();
        let verbs = verbs.get_subcommands().count();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), verbs + 1);

        let mut script = Vec::new();
        let mut command = Arguments::command();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut command,
            "liseg",
            &mut script,
        );
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("submit") && script.contains("--max-memory"));
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
