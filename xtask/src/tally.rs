//! Counting tests in what libtest prints.

use std::fmt;

/// Tests so far, over all programs of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Adds what a closing line of libtest says; other lines say nothing.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colour(line);
        // test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out
        let counts = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .map(|(_, counts)| counts);
        for count in counts.unwrap_or_default().split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" | "filtered out" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Takes out terminal colours: escape, bracket, parameters, `m`.
fn without_colour(line: &str) -> String {
    let mut pieces = line.split('\x1b');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn the_programs_of_tests_add_up() {
        let lines = [
            "test volume::tests::crops ... ok",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        assert_eq!(tally(&lines).to_string(), "6 passed, 3 failed, 3 skipped");
    }

    /// A runner that prints the output of each failed test would have it there a second time.
    #[test]
    fn closing_lines_within_the_output_of_a_test_do_not_count() {
        let lines = [
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 154 filtered out",
            "  stdout: test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        assert_eq!(tally(&lines).to_string(), "3 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_closing_line() {
        let line = "test result: \x1b[32mok\x1b[0m. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(tally(&[line]).to_string(), "2 passed, 0 failed, 0 skipped");
        assert!(tally(&["Compiling", "", "\x1b"]).is_empty());
    }
}
