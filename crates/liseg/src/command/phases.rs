//! Phases that options name.

use super::{Failure, Result};
use liseg::data::Dataset;
use std::collections::BTreeSet;

/// Refuses a phase that no case of the dataset has: it would be passed over in silence.
pub(crate) fn check_phases<'a>(
    option: &str,
    wanted: impl IntoIterator<Item = &'a String>,
    dataset: &Dataset,
) -> Result<()> {
    let phases = dataset.cases().iter().filter_map(|c| c.phase.as_ref());
    let phases: BTreeSet<&String> = phases.collect();
    let Some(unknown) = wanted.into_iter().find(|phase| !phases.contains(phase)) else {
        return Ok(());
    };
    let there: Vec<&str> = phases.into_iter().map(String::as_str).collect();
    let there = match &there[..] {
        [] => "cases.json names no phase".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    Err(Failure::usage(format!(
        "{option} {unknown}: no case has this phase; {there}"
    )))
}
