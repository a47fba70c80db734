//! Counting tests in what the test runners print.

use std::fmt;

/// Tests so far, over all runners.
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

    /// Adds what a closing line of libtest or nextest says; other lines say nothing.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colour(line);
        let line = line.trim();
        // test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out
        let counts = if let Some(rest) = line.strip_prefix("test result: ") {
            rest.split_once(". ").map(|(_, counts)| counts)
        //      Summary [   0.390s] 6 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 0 skipped
        } else if line.starts_with("Summary [") {
            line.split_once(" run: ").map(|(_, counts)| counts)
        } else {
            None
        };
        for count in counts.unwrap_or_default().split([';', ',']) {
            let Some((number, what)) = count.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what.split(" (").next() {
                Some("passed") => self.passed += number,
                Some("failed" | "timed out" | "exec failed") => self.failed += number,
                Some("ignored" | "skipped") => self.skipped += number,
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
    fn libtest_and_nextest_add_up() {
        let lines = [
            "test volume::tests::crops ... ok",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "     Summary [   0.390s] 6 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 4 skipped",
        ];
        assert_eq!(
            tally(&lines),
            Tally {
                passed: 9,
                failed: 6,
                skipped: 5
            }
        );
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.390s] \x1b[1m2\x1b[0m tests run: \
                    \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m \x1b[33;1mskipped\x1b[0m";
        assert_eq!(tally(&[line]).to_string(), "2 passed, 0 failed, 0 skipped");
        assert!(tally(&["Compiling", "", "\x1b"]).is_empty());
    }
}
