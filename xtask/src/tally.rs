//! Counting tests in what the test runners print.

use std::fmt;

/// What runs tests and counts them in its closing lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `cargo test`: a line for each test program.
    Libtest,
    /// `cargo nextest run`: one line at the end. A test that failed has its output above, and in that a line of
    /// libtest's about the same test.
    Nextest,
}

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

    /// Adds what a closing line of `runner` says; other lines say nothing.
    pub(crate) fn read(&mut self, line: &str, runner: Runner) {
        let line = without_colour(line);
        let (opening, before_counts) = match runner {
            // test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out
            Runner::Libtest => ("test result: ", ". "),
            //      Summary [   0.390s] 6 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 0 skipped
            Runner::Nextest => ("Summary [", " run: "),
        };
        let counts = line
            .trim()
            .strip_prefix(opening)
            .and_then(|rest| rest.split_once(before_counts))
            .map(|(_, counts)| counts);
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

    fn tally(runner: Runner, lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line, runner));
        tally
    }

    #[test]
    fn the_programs_of_libtest_add_up() {
        let lines = [
            "test volume::tests::crops ... ok",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        assert_eq!(
            tally(Runner::Libtest, &lines).to_string(),
            "6 passed, 3 failed, 1 skipped"
        );
    }

    /// As nextest 0.9 prints two failed tests, their own output in the middle.
    #[test]
    fn a_failed_test_counts_once() {
        let lines = [
            "        FAIL [   0.011s] (1/6) liseg-ssl ramp::tests::stairs",
            "  stdout ───",
            "    running 1 test",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 154 filtered out",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 154 filtered out",
            "     Summary [   0.390s] 6 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 4 skipped",
            "        FAIL [   0.011s] (1/6) liseg-ssl ramp::tests::stairs",
        ];
        assert_eq!(
            tally(Runner::Nextest, &lines).to_string(),
            "3 passed, 3 failed, 4 skipped"
        );
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.390s] \x1b[1m2\x1b[0m tests run: \
                    \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m \x1b[33;1mskipped\x1b[0m";
        let of = |lines: &[&str]| tally(Runner::Nextest, lines);
        assert_eq!(of(&[line]).to_string(), "2 passed, 0 failed, 0 skipped");
        assert!(of(&["Compiling", "", "\x1b"]).is_empty());
    }
}
