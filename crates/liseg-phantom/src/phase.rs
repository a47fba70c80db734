//! Phases and sequences of a liver MRI.

use crate::Error;
use serde::{Deserialize, Serialize};

/// A phase or sequence of a liver MRI with gadoxetate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// Arterial phase, T1-weighted, about 25 s after the contrast agent.
    #[serde(rename = "GED1")]
    Ged1,
    /// Portal venous phase, about 1 min.
    #[serde(rename = "GED2")]
    Ged2,
    /// Delayed phase, about 4 min.
    #[serde(rename = "GED3")]
    Ged3,
    /// Hepatobiliary phase, about 20 min: the phase with labels.
    #[serde(rename = "GED4")]
    Ged4,
    /// T1-weighted, before the contrast agent.
    #[serde(rename = "T1WI")]
    T1,
    /// T2-weighted: the liver is dark.
    #[serde(rename = "T2WI")]
    T2,
    /// Diffusion-weighted, b = 800 s/mm².
    #[serde(rename = "DWI")]
    Dwi,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 7] = [
        Self::Ged1,
        Self::Ged2,
        Self::Ged3,
        Self::Ged4,
        Self::T1,
        Self::T2,
        Self::Dwi,
    ];

    /// The name of the phase's file in the LiQA layout, without ending.
    pub fn liqa_name(self) -> &'static str {
        match self {
            Self::Ged1 => "GED1",
            Self::Ged2 => "GED2",
            Self::Ged3 => "GED3",
            Self::Ged4 => "GED4",
            Self::T1 => "T1",
            Self::T2 => "T2",
            Self::Dwi => "DWI_800",
        }
    }
}

impl std::fmt::Display for Phase {
    /// `GED1` to `GED4`, `T1WI`, `T2WI`, `DWI`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ged1 => "GED1",
            Self::Ged2 => "GED2",
            Self::Ged3 => "GED3",
            Self::Ged4 => "GED4",
            Self::T1 => "T1WI",
            Self::T2 => "T2WI",
            Self::Dwi => "DWI",
        })
    }
}

impl std::str::FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|p| p.to_string() == text);
        found.ok_or_else(|| Error::Name {
            what: "phase",
            found: text.to_owned(),
            expected: "GED1, GED2, GED3, GED4, T1WI, T2WI or DWI",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_same_in_text_and_in_json() {
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().parse::<Phase>().unwrap(), phase);
            let json = serde_json::to_string(&phase).unwrap();
            assert_eq!(json, format!("\"{phase}\""));
        }
        assert!("GED5".parse::<Phase>().is_err());
    }
}
