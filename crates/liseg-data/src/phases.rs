//! Phases by name, and the names of CARE-Liver's sub-tasks that stand for several.

use crate::{Case, Error, Result};
use std::collections::BTreeSet;

/// The sub-tasks of CARE-Liver 2025 and their phases: what is to be segmented in each.
pub const SUB_TASKS: [(&str, &[&str]); 2] = [
    ("contrast", &["GED4"]),
    ("non_contrast", &["T1WI", "T2WI", "DWI"]),
];

/// The phases that `wanted` names, each once: `contrast` is GED4, `non_contrast` those of T1WI, T2WI and
/// DWI that there are, any other name is itself. None for an empty list, which stands for all.
///
/// ```
/// use liseg_data::{Case, Subset, phases_of};
/// let case = |id: &str, phase: &str| Case {
///     phase: Some(phase.to_owned()),
///     ..Case::new(id, "image.nii.gz", Subset::Test)
/// };
/// let cases = [case("a", "GED4"), case("b", "T1WI"), case("c", "T2WI")];
/// let named = phases_of("phases", &["non_contrast".to_owned()], &cases)?;
/// assert_eq!(named, ["T1WI", "T2WI"]);
/// # Ok::<(), liseg_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Setting`] of that `field` for a phase that no case has: it is misspelt, or these are other
/// data.
pub fn phases_of<'a>(
    field: &'static str,
    wanted: &[String],
    cases: impl IntoIterator<Item = &'a Case>,
) -> Result<Vec<String>> {
    let there = cases.into_iter().filter_map(|case| case.phase.as_deref());
    let there: BTreeSet<&str> = there.collect();
    let mut named: Vec<String> = Vec::new();
    for name in wanted {
        let task = SUB_TASKS.iter().find(|(task, _)| task == name);
        let phases = task.map_or(vec![name.as_str()], |(_, phases)| phases.to_vec());
        let found: Vec<&str> = phases.into_iter().filter(|p| there.contains(p)).collect();
        if found.is_empty() {
            return Err(Error::setting(field, unknown(name, &there)));
        }
        for phase in found {
            if !named.iter().any(|known| known == phase) {
                named.push(phase.to_owned());
            }
        }
    }
    Ok(named)
}

fn unknown(name: &str, there: &BTreeSet<&str>) -> String {
    let there: Vec<&str> = there.iter().copied().collect();
    let there = match &there[..] {
        [] => "cases.json would say which phase a case is of".into(),
        some => format!("there are {}", some.join(", ")),
    };
    format!("no case has phase {name}; {there}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subset;

    fn cases(phases: &[&str]) -> Vec<Case> {
        let case = |phase: &&str| Case {
            phase: Some((*phase).to_owned()),
            ..Case::new(*phase, "image.nii.gz", Subset::Test)
        };
        phases.iter().map(case).collect()
    }

    fn named(wanted: &[&str], there: &[&str]) -> Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|&w| w.to_owned()).collect();
        phases_of("phases", &wanted, &cases(there))
    }

    #[test]
    fn sub_tasks_stand_for_the_phases_that_are_there() {
        let all = ["GED4", "T1WI", "T2WI", "DWI"];
        assert_eq!(named(&["contrast"], &all).unwrap(), ["GED4"]);
        assert_eq!(
            named(&["non_contrast"], &all).unwrap(),
            ["T1WI", "T2WI", "DWI"]
        );
        assert_eq!(
            named(&["non_contrast"], &["T2WI", "GED4"]).unwrap(),
            ["T2WI"]
        );
        assert_eq!(
            named(&["T2WI", "non_contrast"], &all).unwrap(),
            ["T2WI", "T1WI", "DWI"]
        );
        assert!(named(&[], &all).unwrap().is_empty());
    }

    #[test]
    fn phases_that_no_case_has_are_refused() {
        for (wanted, there) in [
            ("T2", &["T2WI"][..]),
            ("non_contrast", &["GED4"]),
            ("GED4", &[]),
        ] {
            let error = named(&[wanted], there).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
