//! Instance normalisation, and what follows it in a network's blocks.

use super::NEGATIVE_SLOPE;
use crate::checkpointing::is_without_gradients;
use crate::shim::{Normalise, normalise};
use crate::{Parameters, Result};
use tch::{Device, Kind, Tensor};

/// Added to the variance (PyTorch's default).
const EPSILON: f64 = 1e-5;

/// Instance normalisation with learnt scale and shift: every channel of every sample to mean 0 and
/// variance 1 over its voxels (Ulyanov et al. 2016), then · weight + bias.
#[derive(Debug)]
pub struct InstanceNorm {
    weight: Tensor,
    bias: Tensor,
}

impl InstanceNorm {
    /// The same layer on the same weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
        }
    }

    /// Normalises `channels` channels, named `{path}.weight` (ones) and `{path}.bias` (zeros).
    ///
    /// # Errors
    /// When the name is taken or libtorch fails.
    pub fn new(parameters: &mut Parameters, path: &str, channels: i64) -> Result<Self> {
        let on_cpu = (Kind::Float, Device::Cpu);
        Ok(Self {
            weight: parameters.add(
                &format!("{path}.weight"),
                Tensor::f_ones([channels], on_cpu)?,
            )?,
            bias: parameters.add(
                &format!("{path}.bias"),
                Tensor::f_zeros([channels], on_cpu)?,
            )?,
        })
    }

    /// Scale and shift.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// `[n, c, z, y, x]` → the same shape. Statistics are taken in f32 or wider whatever the format of `x`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if has_kernel(x)? {
            let how = Normalise {
                epsilon: EPSILON,
                slope: 1.0,
                over: false,
            };
            return normalise(x, self.tensors(), None, how);
        }
        self.by_libtorch(x)
    }

    /// max(v, 0.01 · v) with v = [`forward`](Self::forward)(x) + `across`, which has the shape and number format of `x`: a
    /// norm, what a residual block adds to it, and the leaky rectifier. Writes over `x` where no gradient is recorded, and
    /// so needs no second map; the values are the same.
    ///
    /// # Errors
    /// When the shapes do not fit together or libtorch fails.
    pub fn rectified(&self, x: Tensor, across: Option<&Tensor>) -> Result<Tensor> {
        if has_kernel(&x)? {
            let how = Normalise {
                epsilon: EPSILON,
                slope: NEGATIVE_SLOPE,
                over: !crate::records_gradients(),
            };
            return normalise(&x, self.tensors(), across, how);
        }
        // On a GPU the kernel that writes over its argument is another one than that of training, which the two runs of a
        // checkpointed stage have to share.
        let mut y = match is_without_gradients() {
            true => self.over_by_libtorch(x)?,
            false => self.by_libtorch(&x)?,
        };
        if let Some(across) = across {
            let _ = y.f_add_(across)?;
        }
        Ok(y.f_leaky_relu_()?)
    }

    /// libtorch's instance norm copies channels-last input into the default layout and back. Batch norm over a single
    /// sample computes the same thing and has a channels-last kernel.
    fn by_libtorch(&self, x: &Tensor) -> Result<Tensor> {
        let one = |x: &Tensor| {
            let [weight, bias] = self.tensors().map(Some);
            let none = None::<&Tensor>;
            x.f_batch_norm(weight, bias, none, none, true, 0.1, EPSILON, false)
        };
        if x.size()[0] == 1 {
            return Ok(one(x)?);
        }
        // Split at once: the gradient of one split is one joining, that of each piece cut by itself a whole map.
        let samples = x.f_split(1, 0)?;
        let normalised = samples.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_cat(&normalised, 0)?)
    }

    fn over_by_libtorch(&self, x: Tensor) -> Result<Tensor> {
        let channels = self.weight.size();
        let beside = (Kind::Float, x.device());
        let mean = Tensor::f_empty(channels.as_slice(), beside)?;
        let deviation = Tensor::f_empty(channels.as_slice(), beside)?;
        let [weight, bias] = self.tensors().map(Some);
        let none = None::<&Tensor>;
        for i in 0..x.size()[0] {
            let one = x.f_narrow(0, i, 1)?;
            // Statistics are complete before the first value is written.
            let _ = one.f_native_batch_norm_out(
                &one, &mean, &deviation, weight, bias, none, none, true, 0.1, EPSILON,
            )?;
        }
        Ok(x)
    }
}

/// Whether the kernel of our own has maps of this device and number format.
fn has_kernel(x: &Tensor) -> Result<bool> {
    let kind = x.f_kind()?;
    Ok(x.device() == Device::Cpu && matches!(kind, Kind::Float | Kind::BFloat16))
}

#[cfg(test)]
mod tests {
    use super::super::testing::input;
    use super::super::to_compute_layout;
    use super::*;

    fn norm(channels: i64) -> InstanceNorm {
        let mut parameters = Parameters::new(Device::Cpu);
        let norm = InstanceNorm::new(&mut parameters, "norm", channels).unwrap();
        let _guard = tch::no_grad_guard();
        for (i, weights) in norm.tensors().into_iter().enumerate() {
            let values = input([1, 1, 1, 1, channels]).view(channels) + i as f64;
            weights.shallow_clone().copy_(&values);
        }
        norm
    }

    #[test]
    fn normalises_every_channel_of_every_sample() {
        let norm = norm(3);
        let x = input([2, 3, 4, 6, 8]) * 5.0 + 2.0;
        for x in [
            x.shallow_clone(),
            to_compute_layout(&x, Kind::Float).unwrap(),
        ] {
            let y = norm.forward(&x).unwrap();
            let [weight, bias] = norm.tensors().map(Some);
            let none = None::<&Tensor>;
            let reference = x.instance_norm(weight, bias, none, none, true, 0.1, EPSILON, true);
            assert!((&y - reference).abs().max().double_value(&[]) < 1e-5);
            assert!(
                (&y - norm.by_libtorch(&x).unwrap())
                    .abs()
                    .max()
                    .double_value(&[])
                    < 1e-5
            );
        }
    }

    #[test]
    fn maps_are_written_over_where_no_gradient_is_recorded() {
        let norm = norm(3);
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = to_compute_layout(&input([2, 3, 4, 6, 8]), kind).unwrap();
            let across = x.flip([4]);
            let expected = norm.rectified(x.shallow_clone(), Some(&across)).unwrap();
            assert_ne!(expected.data_ptr(), x.data_ptr());
            let _guard = tch::no_grad_guard();
            let (place, strides) = (x.data_ptr(), x.stride());
            let over = norm.rectified(x, Some(&across)).unwrap();
            assert!(over.equal(&expected), "{kind:?}");
            assert_eq!((over.data_ptr(), over.stride()), (place, strides));
        }
    }

    #[test]
    fn a_map_that_is_added_to_itself_is_left_alone() {
        let norm = norm(3);
        let x = to_compute_layout(&input([1, 3, 4, 6, 8]), Kind::Float).unwrap();
        let expected = norm.rectified(x.copy(), Some(&x)).unwrap();
        let _guard = tch::no_grad_guard();
        let found = norm.rectified(x.shallow_clone(), Some(&x)).unwrap();
        assert!(found.equal(&expected));
        assert_ne!(found.data_ptr(), x.data_ptr());
    }

    type Step<'a> = &'a dyn Fn(&InstanceNorm, &Tensor, Option<&Tensor>) -> Tensor;

    /// A map, the gradients of x and of what is added, and those of the weights.
    fn outcome(map: &Tensor, added: bool, kinds: [Kind; 2], step: Step) -> [Tensor; 5] {
        let leaf = |t: &Tensor, kind: Kind| t.detach().to_kind(kind).set_requires_grad(true);
        let size: [i64; 5] = map.size().try_into().unwrap();
        let norm = norm(size[1]);
        let norm = InstanceNorm {
            weight: leaf(&norm.weight, kinds[1]),
            bias: leaf(&norm.bias, kinds[1]),
        };
        let [x, across] = [map.shallow_clone(), map.flip([1])]
            .map(|map| leaf(&to_compute_layout(&map, kinds[0]).unwrap(), kinds[0]));
        let y = step(&norm, &x, added.then_some(&across));
        (&y * input(size).cos()).sum(Kind::Double).backward();
        let [of_weight, of_bias] = norm.tensors().map(Tensor::grad);
        [y.detach(), x.grad(), across.grad(), of_weight, of_bias]
    }

    /// Values and gradients against the steps one by one in f64, which libtorch computes.
    #[test]
    fn gradients_are_those_of_the_steps() {
        let here: Step = &|norm, x, across| norm.rectified(x.shallow_clone(), across).unwrap();
        let steps: Step = &|norm, x, across| {
            let [weight, bias] = norm.tensors().map(Some);
            let none = None::<&Tensor>;
            let y = x.instance_norm(weight, bias, none, none, true, 0.1, EPSILON, true);
            across
                .map_or(y.shallow_clone(), |across| y + across)
                .leaky_relu()
        };
        for (size, kind, tolerance) in [
            ([2, 16, 4, 6, 8], Kind::Float, 1e-5),
            ([1, 8, 1, 2, 1], Kind::Float, 1e-5),
            ([3, 5, 3, 5, 7], Kind::Float, 1e-5),
            ([2, 16, 4, 6, 8], Kind::BFloat16, 3e-2),
        ] {
            let map = input(size).to_kind(kind);
            for added in [false, true] {
                let found = outcome(&map, added, [kind, Kind::Float], here);
                let expected = outcome(&map, added, [Kind::Double; 2], steps);
                for (part, (a, b)) in found.iter().zip(&expected).enumerate() {
                    assert_eq!(a.defined(), b.defined());
                    if a.defined() {
                        let error = (a.to_kind(Kind::Double) - b).abs().max().double_value(&[]);
                        let allowed = tolerance * (1.0 + b.abs().max().double_value(&[]));
                        assert!(error < allowed, "{size:?} {kind:?}, part {part}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let norm = norm(3);
        let error = |x: Tensor, across: Option<&Tensor>| norm.rectified(x, across).unwrap_err();
        let message = error(input([1, 4, 2, 2, 2]), None).to_string();
        assert!(message.contains("do not fit together"), "{message}");
        let across = input([1, 3, 2, 2, 1]);
        let message = error(input([1, 3, 2, 2, 2]), Some(&across)).to_string();
        assert!(message.contains("do not fit together"), "{message}");
    }
}
