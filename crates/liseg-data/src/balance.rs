//! Which case the next patch comes from.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What patches are spread over evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Cases: each is as likely as any other, as in nnU-Net.
    #[default]
    Cases,
    /// Vendors: each is as likely as any other, and within it each case.
    Vendors,
    /// Phases, likewise.
    Phases,
    /// Pairs of vendor and phase that occur, likewise.
    VendorsAndPhases,
}

/// Draws cases of one stream, evenly over groups and within them.
#[derive(Debug, Clone)]
pub(crate) struct CaseDraw {
    /// Indices of cases by group; no group is empty.
    groups: Vec<Vec<usize>>,
}

impl CaseDraw {
    /// Groups cases by (vendor, phase).
    pub(crate) fn new<'a>(
        balance: Balance,
        cases: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>,
    ) -> Self {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, (vendor, phase)) in cases.into_iter().enumerate() {
            let key = match balance {
                Balance::Cases => (None, None),
                Balance::Vendors => (vendor, None),
                Balance::Phases => (None, phase),
                Balance::VendorsAndPhases => (vendor, phase),
            };
            groups.entry(key).or_default().push(index);
        }
        Self {
            groups: groups.into_values().collect(),
        }
    }

    /// The index of a case; 0 when there are none.
    pub(crate) fn draw<R: Rng + ?Sized>(&self, rng: &mut R) -> usize {
        let group = match &self.groups[..] {
            [] => return 0,
            [alone] => alone,
            groups => &groups[rng.random_range(0..groups.len())],
        };
        group[rng.random_range(0..group.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;

    /// Ninety cases of vendor A, nine of B with two phases, one of unknown vendor.
    fn shares(balance: Balance) -> [f64; 4] {
        let about = |i: usize| match i {
            0..90 => (Some("A"), Some("GED4")),
            90..96 => (Some("B"), Some("GED4")),
            96..99 => (Some("B"), Some("T1WI")),
            _ => (None, Some("GED4")),
        };
        let draw = CaseDraw::new(balance, (0..100).map(about));
        let mut rng = Seed(1).stream("balance", 0, 0);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            let group = match draw.draw(&mut rng) {
                0..90 => 0,
                90..96 => 1,
                96..99 => 2,
                _ => 3,
            };
            counts[group] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn every_group_gets_its_share() {
        let third = 1.0 / 3.0;
        for (balance, expected) in [
            (Balance::Cases, [0.9, 0.06, 0.03, 0.01]),
            (
                Balance::Vendors,
                [third, third * 2.0 / 3.0, third / 3.0, third],
            ),
            (
                Balance::Phases,
                [0.5 * 90.0 / 97.0, 0.5 * 6.0 / 97.0, 0.5, 0.5 / 97.0],
            ),
            (Balance::VendorsAndPhases, [0.25; 4]),
        ] {
            for (found, expected) in shares(balance).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 0.015,
                    "{balance:?}: {found}, not {expected}"
                );
            }
        }
    }
}
