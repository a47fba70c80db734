//! Test-time augmentation by flips.

use serde::{Deserialize, Serialize};

/// Which flips of a tile are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tta {
    /// Each tile once.
    #[default]
    None,
    /// The mean of the logits over all flips of each tile along the axes that training mirrored (see
    /// [`Model::with_window`](super::Model::with_window)); a window by itself flips along all three, eight times the
    /// work.
    Mirror,
    /// The mean over all flips along some axes, (z, y, x); twice the work for each axis.
    Axes([bool; 3]),
}

impl Tta {
    fn axes(self) -> [bool; 3] {
        match self {
            Self::None => [false; 3],
            Self::Mirror => [true; 3],
            Self::Axes(axes) => axes,
        }
    }

    /// How often the network runs for each tile.
    pub fn passes(self) -> usize {
        1 << self.axes().iter().filter(|&&flipped| flipped).count()
    }

    /// The sets of flipped tensor axes, by size, the identity first.
    pub(super) fn flips(self) -> Vec<Vec<i64>> {
        let axes = self.axes();
        let mut sets: Vec<Vec<i64>> = (0..8u8)
            .filter(|set| (0..3).all(|a| set >> a & 1 == 0 || axes[a]))
            .map(|set| {
                (0..3)
                    .filter(|a| set >> a & 1 == 1)
                    .map(|a| a + 2)
                    .collect()
            })
            .collect();
        sets.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        sets
    }
}

impl std::fmt::Display for Tta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Mirror => f.write_str("mirror"),
            Self::None | Self::Axes([false, false, false]) => f.write_str("none"),
            Self::Axes(axes) => {
                let names = ["z", "y", "x"].into_iter().zip(axes);
                let chosen: String = names.filter(|(_, on)| *on).map(|(name, _)| name).collect();
                f.write_str(&chosen)
            }
        }
    }
}

impl std::str::FromStr for Tta {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "mirror" => return Ok(Self::Mirror),
            _ => {}
        }
        let mut axes = [false; 3];
        for letter in text.chars() {
            match "zyx".find(letter) {
                Some(axis) if !axes[axis] => axes[axis] = true,
                _ => {
                    return Err("expected none, mirror, or the axes to flip, as in x or yx".into());
                }
            }
        }
        match axes {
            [false, false, false] => Err("expected none, mirror, or axes such as x or yx".into()),
            axes => Ok(Self::Axes(axes)),
        }
    }
}

impl TryFrom<String> for Tta {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Tta> for String {
    fn from(tta: Tta) -> Self {
        tta.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_count_their_passes() {
        for (name, passes) in [("none", 1), ("mirror", 8), ("zyx", 8), ("x", 2), ("zx", 4)] {
            let tta: Tta = name.parse().unwrap();
            assert_eq!((tta.to_string().as_str(), tta.passes()), (name, passes));
            assert_eq!(tta.flips().len(), passes);
        }
        assert_eq!("xyz".parse(), Ok(Tta::Axes([true; 3])));
        assert_eq!(
            "zx".parse::<Tta>().unwrap().flips(),
            [vec![], vec![2], vec![4], vec![2, 4]]
        );
        for wrong in ["", "all", "xx", "w"] {
            assert!(wrong.parse::<Tta>().is_err(), "{wrong}");
        }
    }
}
