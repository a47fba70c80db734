//! Text that came out of files, as it may be shown.
//!
//! A header, a name or a message of another library can hold codes that a terminal obeys, formulas that a spreadsheet
//! computes, and megabytes.

use std::borrow::Cow;
use std::fmt::Write;

/// As many characters as a line about something has at most.
const LONGEST: usize = 2000;

/// How many of them are the last ones: the cause of an error stands at its end.
const END: usize = 500;

/// `text` with codes that a terminal obeys written out, as in `\u{1b}`; lines and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_code) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_code(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// `text` as one line of at most some 2000 characters, without codes; of a longer one the beginning and the end.
pub fn line(text: &str) -> String {
    let short = shortened(text.trim());
    printable(&short).replace(['\n', '\t', '\r'], " ")
}

/// `text` as a cell of a table in CSV: a [`line()`], behind an apostrophe where a spreadsheet would take it for a formula.
pub fn cell(text: &str) -> String {
    let text = line(text);
    let is_formula = text.starts_with(['=', '+', '-', '@', '\'']) && text.parse::<f64>().is_err();
    if is_formula { format!("'{text}") } else { text }
}

/// [`cell`] as it stands in a line of CSV: in quotation marks where it needs them.
pub fn field(text: &str) -> String {
    let cell = cell(text);
    match cell.contains([',', '"']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

/// The text of which [`cell`] made a cell, if that was a short line.
pub fn of_cell(cell: &str) -> &str {
    let text = cell.strip_prefix('\'').unwrap_or(cell);
    match text.starts_with(['=', '+', '-', '@', '\'']) {
        true => text,
        false => cell,
    }
}

/// Whether a character is a control character other than an end of line and a tab, or turns the direction of writing, by which
/// a name looks like another.
pub fn is_code(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || turns || breaks
}

fn shortened(text: &str) -> Cow<'_, str> {
    // A character has at most four bytes.
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let count = text.chars().count();
    if count <= LONGEST {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(LONGEST - END).collect();
    // Writing to a string cannot fail.
    let _ = write!(short, " … ({} characters left out) … ", count - LONGEST);
    short.extend(text.chars().skip(count - END));
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_out() {
        let evil = "a\u{1b}[2J\u{7}\u{9b}31mb\r\u{202e}c\n\td é 中";
        let shown = printable(evil);
        assert_eq!(
            shown,
            "a\\u{1b}[2J\\u{7}\\u{9b}31mb\\u{d}\\u{202e}c\n\td é 中"
        );
        assert_eq!(printable("no codes\n"), "no codes\n");
        assert_eq!(line("  first\nsecond\tthird\n"), "first second third");
    }

    #[test]
    fn a_line_has_the_beginning_and_the_end_of_a_long_text() {
        let whole = "é".repeat(LONGEST);
        assert_eq!(line(&whole), whole);
        let text = format!("file {}: the cause", "x".repeat(34_000_000));
        let short = line(&text);
        assert!(short.chars().count() < LONGEST + 100, "{}", short.len());
        assert!(short.starts_with("file xxx") && short.ends_with("x: the cause"));
        assert!(short.contains("(33998016 characters left out)"), "{short}");
        // Written out, codes are longer.
        assert!(line(&"\u{1b}".repeat(1_000_000)).len() < 7 * LONGEST);
    }

    #[test]
    fn cells_are_no_formulas() {
        for text in [
            "=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "'quoted",
        ] {
            let cell = cell(text);
            assert!(cell.starts_with(['\'', '\\']), "{cell}");
        }
        for text in ["-0.5", "+3", "1e-3", "case_1", "", "a=b"] {
            assert_eq!(cell(text), text);
        }
        for text in ["=1+1", "-", "'quoted", "''", "case", "-0.5", "x'"] {
            assert_eq!(of_cell(&cell(text)), text);
        }
        assert_eq!(field("=a,\"b\""), "\"'=a,\"\"b\"\"\"");
        assert_eq!(field("a b"), "a b");
    }
}
