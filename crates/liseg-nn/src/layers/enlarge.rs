//! Enlarging maps, and joining them with finer ones.

use crate::Result;
use tch::{Device, Kind, Tensor};

/// Enlarges a map to `shape` voxels (z, y, x) by linear interpolation between voxel centres.
///
/// # Errors
/// When libtorch fails.
pub fn upsample_linear(x: &Tensor, shape: [i64; 3]) -> Result<Tensor> {
    Ok(x.f_upsample_trilinear3d(shape, false, None, None, None)?)
}

/// Repeats every voxel of `coarse` `factor` times along (z, y, x), nearest-neighbour upsampling, and puts its channels before
/// those of `fine`: `[n, a, z, y, x]` and `[n, b, z·fz, y·fy, x·fx]` → `[n, a + b, z·fz, y·fy, x·fx]`. Both are dropped as
/// soon as nothing needs them.
///
/// # Errors
/// When the shapes do not fit together or libtorch fails.
pub fn join_enlarged(coarse: Tensor, factor: [usize; 3], fine: Tensor) -> Result<Tensor> {
    let factor = factor.map(|f| f as i64);
    match (coarse.device(), coarse.f_kind()?) {
        (Device::Cpu, Kind::Float | Kind::BFloat16) => crate::shim::join(&coarse, factor, &fine),
        _ => join_repeated(&coarse, factor, &fine),
    }
}

/// [`join_enlarged`] by operations that every device has: libtorch's own enlargement gives CUDA maps of the default layout
/// alone, which the joined one would take.
fn join_repeated(coarse: &Tensor, factor: [i64; 3], fine: &Tensor) -> Result<Tensor> {
    let (n, a, z, y, x) = coarse.size5()?;
    let b = fine.size5()?.1;
    let [fz, fy, fx] = factor;
    let channels_last = [0, 2, 3, 4, 1];
    let repeated = coarse
        .f_permute(channels_last)?
        .f_reshape([n, z, 1, y, 1, x, 1, a])?
        .f_expand([n, z, fz, y, fy, x, fx, a], false)?;
    let fine = fine
        .f_permute(channels_last)?
        .f_reshape([n, z, fz, y, fy, x, fx, b])?;
    Ok(Tensor::f_cat(&[repeated, fine], -1)?
        .f_reshape([n, z * fz, y * fy, x * fx, a + b])?
        .f_permute([0, 4, 1, 2, 3])?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::input;
    use super::super::to_compute_layout;
    use super::*;

    #[test]
    fn maps_join_alike_on_every_device() {
        let (coarse, fine) = (input([2, 3, 2, 3, 4]), input([2, 5, 2, 6, 12]));
        let factor = [1, 2, 3];
        let outcome = |kind: Kind, join: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>| {
            let of = |t: &Tensor| {
                let t = to_compute_layout(t, kind).unwrap();
                t.detach().set_requires_grad(true)
            };
            let (coarse, fine) = (of(&coarse), of(&fine));
            let joined = join(&coarse, &fine).unwrap();
            // Each voxel with a weight of its own.
            let weights = input([2, 8, 2, 6, 12]);
            (&joined * weights).sum(Kind::Float).backward();
            [joined.detach(), coarse.grad(), fine.grad()]
        };
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 1e-2)] {
            let here = outcome(kind, &|a, b| {
                join_enlarged(a.shallow_clone(), factor, b.shallow_clone())
            });
            let there = outcome(kind, &|a, b| join_repeated(a, factor.map(|f| f as i64), b));
            assert_eq!(here[0].size(), [2, 8, 2, 6, 12]);
            for (a, b) in here.iter().zip(&there) {
                assert!(a.kind() == kind && a.allclose(b, tolerance, tolerance, false));
            }
            let layout = |t: &Tensor| t.permute([0, 2, 3, 4, 1]).is_contiguous();
            assert!(here.iter().all(layout) && layout(&there[0]));
        }
    }

    #[test]
    fn joins_with_maps_in_the_default_layout() {
        let (coarse, fine) = (input([1, 3, 2, 3, 4]), input([1, 5, 4, 6, 8]));
        let enlarged = coarse.upsample_nearest3d([4, 6, 8], 2.0, 2.0, 2.0);
        let expected = Tensor::cat(&[enlarged, fine.shallow_clone()], 1);
        assert!(
            join_enlarged(coarse, [2; 3], fine)
                .unwrap()
                .equal(&expected)
        );
    }

    #[test]
    fn maps_that_do_not_fit_are_an_error() {
        let of = |size| input(size);
        let message = |coarse, fine| {
            let joined = join_enlarged(coarse, [2; 3], fine);
            joined.unwrap_err().to_string()
        };
        let wide = message(of([1, 3, 2, 2, 2]), of([1, 3, 4, 4, 5]));
        assert!(wide.contains("do not fit together"), "{wide}");
        let narrow = of([1, 3, 4, 4, 4]).to_kind(Kind::BFloat16);
        let mixed = message(of([1, 3, 2, 2, 2]), narrow);
        assert!(mixed.contains("do not fit together"), "{mixed}");
    }
}
