//! Distance between neighbouring voxel centres.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Distance between neighbouring voxel centres along each array axis, in millimetres.
///
/// Positive and finite by construction. Serialised as `[z, y, x]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 3]", into = "[f64; 3]")]
pub struct Spacing {
    z: f64,
    y: f64,
    x: f64,
}

impl Spacing {
    /// One millimetre along every axis.
    pub const ISOTROPIC_1MM: Self = Self {
        z: 1.0,
        y: 1.0,
        x: 1.0,
    };

    /// A spacing from its three components in millimetres.
    ///
    /// # Errors
    /// [`Error::Spacing`] when a component is zero, negative or not finite.
    pub fn new(z: f64, y: f64, x: f64) -> Result<Self> {
        for (axis, found) in [('z', z), ('y', y), ('x', x)] {
            if !(found.is_finite() && found > 0.0) {
                return Err(Error::Spacing { axis, found });
            }
        }
        Ok(Self { z, y, x })
    }

    /// Distance between slices, in millimetres.
    pub fn z(self) -> f64 {
        self.z
    }

    /// Distance between rows, in millimetres.
    pub fn y(self) -> f64 {
        self.y
    }

    /// Distance between columns, in millimetres.
    pub fn x(self) -> f64 {
        self.x
    }

    /// The components in array order, `[z, y, x]`, in millimetres.
    pub fn zyx(self) -> [f64; 3] {
        [self.z, self.y, self.x]
    }

    /// The components in file order, `[x, y, z]`, in millimetres.
    pub fn xyz(self) -> [f64; 3] {
        [self.x, self.y, self.z]
    }

    /// The volume of one voxel whose axes are at right angles, in cubic millimetres;
    /// [`Affine::voxel_volume_mm3`](crate::Affine::voxel_volume_mm3) knows sheared ones.
    pub fn voxel_volume_mm3(self) -> f64 {
        self.z * self.y * self.x
    }

    /// The coarsest component divided by the finest one; 1 for isotropic voxels.
    pub fn anisotropy(self) -> f64 {
        let [z, y, x] = self.zyx();
        z.max(y).max(x) / z.min(y).min(x)
    }
}

impl TryFrom<[f64; 3]> for Spacing {
    type Error = Error;

    /// From `[z, y, x]` in millimetres.
    fn try_from([z, y, x]: [f64; 3]) -> Result<Self> {
        Self::new(z, y, x)
    }
}

impl From<Spacing> for [f64; 3] {
    fn from(spacing: Spacing) -> Self {
        spacing.zyx()
    }
}

impl std::fmt::Display for Spacing {
    /// Written z × y × x, as in `7.7×1.25×1.25 mm`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Four decimals, or three digits of what would have none: metres taken for millimetres.
        let round = |v: f64| {
            let decimals = (2.0 - v.log10().floor()).max(4.0);
            let scale = 10f64.powf(decimals);
            (v * scale).round() / scale
        };
        write!(
            f,
            "{}×{}×{} mm",
            round(self.z),
            round(self.y),
            round(self.x)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_distance() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Spacing::new(1.0, bad, 1.0),
                Err(Error::Spacing { axis: 'y', .. })
            ));
        }
    }

    #[test]
    fn orders_are_named() {
        let spacing = Spacing::new(7.7, 1.5, 1.25).unwrap();
        assert_eq!(spacing.zyx(), [7.7, 1.5, 1.25]);
        assert_eq!(spacing.xyz(), [1.25, 1.5, 7.7]);
        assert_eq!(spacing.to_string(), "7.7×1.5×1.25 mm");
        let tiny = Spacing::new(1e-6, 0.001_234, 1.0 / 3.0).unwrap();
        assert_eq!(tiny.to_string(), "0.000001×0.00123×0.3333 mm");
    }
}
