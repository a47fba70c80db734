//! What the command says: results on standard output, all else on standard error.
//!
//! Nothing here ends the work: what nobody can read any more is left unsaid, and [`end`] tells at the very end that a
//! result did not arrive.

use indicatif::{MultiProgress, ProgressBar};
use liseg_file::text::{line, printable};
use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Write};
use std::sync::{LazyLock, OnceLock};

/// The exit status of a program that a shell ends because nobody reads its output.
const NOBODY_READS: u8 = 141;

/// All bars, so that lines come above each of them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Why standard output took no more.
static LOST: OnceLock<Error> = OnceLock::new();

/// A line, or several, on standard output: as `println!`, which panics where nobody listens, and without codes that a
/// terminal obeys.
macro_rules! say {
    ($($words:tt)*) => { $crate::command::terminal::result(format_args!($($words)*)) };
}
pub(crate) use say;

/// See [`say!`].
pub(crate) fn result(words: Arguments<'_>) {
    let mut text = printable(&words.to_string()).into_owned();
    text.push('\n');
    pass_on(text.as_bytes());
}

/// Bytes on standard output as they are.
pub(crate) fn pass_on(bytes: &[u8]) {
    if LOST.get().is_some() {
        return;
    }
    if let Err(error) = std::io::stdout().lock().write_all(bytes) {
        // It is the first error or one like it.
        let _ = LOST.set(error);
    }
}

/// A line on standard error, above the bars.
pub(crate) fn tell(text: &str) {
    let text = line(text);
    // Nobody is left to be told where this fails.
    let _ = match BARS.is_hidden() {
        true => writeln!(std::io::stderr(), "{text}"),
        false => BARS.println(text),
    };
}

/// What failed, on standard error.
pub(crate) fn complain(text: &str) {
    tell(&format!("liseg: {text}"));
}

/// Shows a bar where standard error is a terminal.
pub(crate) fn show(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// The exit status of a call that would have `status`, now that all is said: another when its result did not arrive.
pub(crate) fn end(status: u8) -> u8 {
    if let Err(error) = std::io::stdout().flush() {
        let _ = LOST.set(error);
    }
    match LOST.get() {
        None => status,
        Some(error) if error.kind() == ErrorKind::BrokenPipe => match status {
            0 => NOBODY_READS,
            failed => failed,
        },
        Some(error) => {
            complain(&format!(
                "the result did not arrive on standard output: {error}"
            ));
            status.max(1)
        }
    }
}
