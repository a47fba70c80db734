//! In which anatomical direction each stored axis runs.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// An anatomical direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the patient's right, world +x.
    Right,
    /// Towards the patient's left, world −x.
    Left,
    /// Towards the patient's front, world +y.
    Anterior,
    /// Towards the patient's back, world −y.
    Posterior,
    /// Towards the patient's head, world +z.
    Superior,
    /// Towards the patient's feet, world −z.
    Inferior,
}

impl Direction {
    const LETTERS: [(Self, char); 6] = [
        (Self::Right, 'R'),
        (Self::Left, 'L'),
        (Self::Anterior, 'A'),
        (Self::Posterior, 'P'),
        (Self::Superior, 'S'),
        (Self::Inferior, 'I'),
    ];

    /// The world axis it runs along: 0 left-right, 1 back-front, 2 feet-head.
    pub fn world_axis(self) -> usize {
        match self {
            Self::Right | Self::Left => 0,
            Self::Anterior | Self::Posterior => 1,
            Self::Superior | Self::Inferior => 2,
        }
    }

    /// Whether world coordinates grow in this direction.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::Right | Self::Anterior | Self::Superior)
    }

    pub(crate) fn from_world_axis(axis: usize, positive: bool) -> Self {
        match (axis, positive) {
            (0, true) => Self::Right,
            (0, false) => Self::Left,
            (1, true) => Self::Anterior,
            (1, false) => Self::Posterior,
            (_, true) => Self::Superior,
            (_, false) => Self::Inferior,
        }
    }

    fn letter(self) -> char {
        Self::LETTERS
            .iter()
            .find(|(d, _)| *d == self)
            .map_or('?', |(_, c)| *c)
    }
}

/// In which anatomical direction the index grows along the file axes x, y and z, as in `RAS`.
///
/// The letters name the direction an index grows *towards* (nibabel's `aff2axcodes`). Every body
/// axis occurs once by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Orientation {
    xyz: [Direction; 3],
}

impl Orientation {
    /// Right, anterior, superior: LiSeg's canonical orientation for all network input.
    pub const RAS: Self = Self {
        xyz: [Direction::Right, Direction::Anterior, Direction::Superior],
    };

    /// An orientation from the directions of file axes x, y and z.
    ///
    /// # Errors
    /// [`Error::Orientation`] when a body axis is missing.
    pub fn new(xyz: [Direction; 3]) -> Result<Self> {
        let candidate = Self { xyz };
        let mut axes = xyz.map(Direction::world_axis);
        axes.sort_unstable();
        if axes == [0, 1, 2] {
            Ok(candidate)
        } else {
            Err(Error::Orientation {
                found: candidate.to_string(),
            })
        }
    }

    pub(crate) fn from_matched(xyz: [Direction; 3]) -> Self {
        Self { xyz }
    }

    /// The directions of the file axes x, y and z.
    pub fn xyz(self) -> [Direction; 3] {
        self.xyz
    }
}

impl std::fmt::Display for Orientation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.xyz
            .iter()
            .try_for_each(|d| write!(f, "{}", d.letter()))
    }
}

impl std::str::FromStr for Orientation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Orientation {
            found: text.to_owned(),
        };
        let directions = text
            .chars()
            .map(|c| {
                let c = c.to_ascii_uppercase();
                Direction::LETTERS
                    .iter()
                    .find(|(_, l)| *l == c)
                    .map(|(d, _)| *d)
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unknown)?;
        Self::new(directions.try_into().map_err(|_| unknown())?)
    }
}

impl TryFrom<String> for Orientation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> Self {
        orientation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in ["RAS", "LPS", "ASR", "IPL"] {
            assert_eq!(code.parse::<Orientation>().unwrap().to_string(), code);
        }
        for bad in ["RAL", "RA", "RASS", "XYZ", ""] {
            assert!(bad.parse::<Orientation>().is_err(), "{bad} was accepted");
        }
    }
}
