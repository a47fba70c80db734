//! Means over what was scanned.

use crate::Result;
use liseg_nn::tch::{Kind, Tensor};

/// The mean of a map, numbers or bool `[n, z, y, x]`, over the voxels inside the scanned volume (`valid`, of that
/// shape), all of them when nothing is said; 0 where there is none. A scalar, with gradient where the map has one.
///
/// Padding is left out because a network is sure of it: it would make every share look better than it is.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn mean_within(map: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
    let map = map.f_to_kind(Kind::Float)?;
    let Some(valid) = valid else {
        return Ok(map.f_mean(Kind::Float)?);
    };
    let valid = valid.f_expand_as(&map)?.f_to_kind(Kind::Float)?;
    let sum = map.f_mul(&valid)?.f_sum(Kind::Float)?;
    Ok(sum.f_div(&valid.f_sum(Kind::Float)?.f_clamp_min(1.0)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count() {
        let map = Tensor::from_slice(&[1.0f32, 0.0, 0.5, 1.0]).view([1, 1, 1, 4]);
        let valid = Tensor::from_slice(&[true, true, true, false]).view([1, 1, 1, 4]);
        let mean = |valid| mean_within(&map, valid).unwrap().double_value(&[]);
        assert!((mean(None) - 0.625).abs() < 1e-7);
        assert!((mean(Some(&valid)) - 0.5).abs() < 1e-7);
        assert_eq!(mean(Some(&valid.zeros_like())), 0.0);
    }
}
