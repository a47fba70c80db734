//! Arrays to tensors and back, by copy.
//!
//! tch is built against another ndarray than LiSeg, so data cross as slices. Workers send arrays;
//! only the thread that owns the device makes tensors.

use crate::{Error, Result};
use ndarray::{Array3, Array4, ArrayView3, ArrayView4};
use tch::{Device, Kind, Tensor};

/// Stacks images `[c, z, y, x]` of one shape into f32 `[n, c, z, y, x]` on `device`.
///
/// # Errors
/// [`Error::Shape`] when there is none or the shapes differ.
pub fn images_to_tensor(images: &[ArrayView4<'_, f32>], device: Device) -> Result<Tensor> {
    let shapes = images.iter().map(|i| i.shape().to_vec());
    let mut size = common_shape("image", shapes)?;
    let mut values = Vec::with_capacity(images.iter().map(|i| i.len()).sum());
    for image in images {
        match image.as_slice() {
            Some(slice) => values.extend_from_slice(slice),
            None => values.extend(image.iter()),
        }
    }
    size.insert(0, images.len() as i64);
    to_device(
        &Tensor::f_from_slice(&values)?.f_view(size.as_slice())?,
        device,
    )
}

/// Copies a tensor of the CPU to `device`. To a CUDA device it goes through page-locked memory and
/// without waiting: the copy runs beside what the device is doing, and later work on the device waits
/// for it by itself.
///
/// # Errors
/// When libtorch fails.
pub fn to_device(host: &Tensor, device: Device) -> Result<Tensor> {
    if !device.is_cuda() {
        return Ok(host.f_to_device(device)?);
    }
    // libtorch keeps the page-locked block from reuse until the copy is over.
    let locked = crate::shim::page_locked(host)?;
    Ok(locked.f_to_device_(device, host.f_kind()?, true, false)?)
}

/// Stacks small-integer maps `[z, y, x]` of one shape into `[n, z, y, x]` of `kind` on `device`.
///
/// # Errors
/// [`Error::Shape`] when there is none or the shapes differ.
pub fn labels_to_tensor(
    labels: &[ArrayView3<'_, u8>],
    kind: Kind,
    device: Device,
) -> Result<Tensor> {
    let mut size = common_shape("label", labels.iter().map(|l| l.shape().to_vec()))?;
    let mut values = Vec::with_capacity(labels.iter().map(|l| l.len()).sum());
    for label in labels {
        match label.as_slice() {
            Some(slice) => values.extend_from_slice(slice),
            None => values.extend(label.iter()),
        }
    }
    size.insert(0, labels.len() as i64);
    // Narrow on the way to the device, wide there.
    let bytes = to_device(
        &Tensor::f_from_slice(&values)?.f_view(size.as_slice())?,
        device,
    )?;
    Ok(bytes.f_to_kind(kind)?)
}

/// A tensor `[c, z, y, x]` as an f32 array.
///
/// # Errors
/// [`Error::Shape`] when it has another number of axes.
pub fn tensor_to_array4(tensor: &Tensor) -> Result<Array4<f32>> {
    let size = tensor.size();
    let [c, z, y, x] = size[..] else {
        return Err(Error::Shape {
            what: "tensor".into(),
            expected: "4 axes (c, z, y, x)".into(),
            found: size,
        });
    };
    let shape = (c as usize, z as usize, y as usize, x as usize);
    let values = values(tensor, Kind::Float, 0.0f32)?;
    Array4::from_shape_vec(shape, values).map_err(|_| other_count(size))
}

/// An integer tensor `[z, y, x]` with values 0..=255 as a label array.
///
/// # Errors
/// [`Error::Shape`] when it has another number of axes.
pub fn tensor_to_labels(tensor: &Tensor) -> Result<Array3<u8>> {
    let size = tensor.size();
    let [z, y, x] = size[..] else {
        return Err(Error::Shape {
            what: "tensor".into(),
            expected: "3 axes (z, y, x)".into(),
            found: size,
        });
    };
    let values = values(tensor, Kind::Uint8, 0u8)?;
    let shape = (z as usize, y as usize, x as usize);
    Array3::from_shape_vec(shape, values).map_err(|_| other_count(size))
}

/// The values of a tensor as `kind`, in the order of a contiguous one.
fn values<T: tch::kind::Element + Copy>(tensor: &Tensor, kind: Kind, zero: T) -> Result<Vec<T>> {
    let host = tensor
        .f_to_kind(kind)?
        .f_to_device(Device::Cpu)?
        .f_contiguous()?;
    let mut values = vec![zero; host.numel()];
    host.f_copy_data(&mut values, host.numel())?;
    Ok(values)
}

fn other_count(found: Vec<i64>) -> Error {
    Error::Shape {
        what: "tensor".into(),
        expected: "as many values as its shape says".into(),
        found,
    }
}

fn common_shape(what: &str, shapes: impl Iterator<Item = Vec<usize>>) -> Result<Vec<i64>> {
    let as_size = |shape: Vec<usize>| shape.into_iter().map(|n| n as i64).collect::<Vec<_>>();
    let mut shapes = shapes.map(as_size);
    let none = || Error::Shape {
        what: format!("the list of {what}s"),
        expected: "at least one".into(),
        found: vec![0],
    };
    let first = shapes.next().ok_or_else(none)?;
    for (i, other) in shapes.enumerate() {
        if other != first {
            return Err(Error::Shape {
                what: format!("{what} {} of a batch", i + 1),
                expected: format!("{first:?} as in the first"),
                found: other,
            });
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, Axis};

    #[test]
    fn any_memory_order_crosses_unchanged() {
        let image = Array::from_iter((0..24).map(|v| v as f32)).into_shape_with_order((1, 2, 3, 4));
        let image = image.unwrap();
        let mut flipped = image.clone();
        flipped.invert_axis(Axis(3));
        let tensor = images_to_tensor(&[image.view(), flipped.view()], Device::Cpu).unwrap();
        assert_eq!(tensor.size(), [2, 1, 2, 3, 4]);
        assert_eq!(tensor_to_array4(&tensor.get(0)).unwrap(), image);
        assert_eq!(tensor_to_array4(&tensor.get(1)).unwrap(), flipped);
    }

    #[test]
    fn unequal_shapes_are_refused() {
        let (a, b) = (
            Array3::<u8>::zeros((2, 3, 4)),
            Array3::<u8>::zeros((2, 3, 5)),
        );
        let error = labels_to_tensor(&[a.view(), b.view()], Kind::Int64, Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("[2, 3, 5]"), "{error}");
        assert!(images_to_tensor(&[], Device::Cpu).is_err());
    }
}
