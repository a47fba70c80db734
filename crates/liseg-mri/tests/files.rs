//! Writing and reading files.

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod files {
    mod common;
    mod options;
    mod regressions;
    mod round_trip;
}
