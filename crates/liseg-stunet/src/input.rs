//! What every network here asks of its input.

use liseg_nn::tch::Tensor;
use liseg_nn::{Error, Result};

/// Refuses images that have another number of channels or that the strides do not divide.
pub(crate) fn check(images: &Tensor, channels: i64, product: [usize; 3]) -> Result<()> {
    let size = images.size();
    let fits = matches!(size[..], [n, c, z, y, x] if n > 0 && c == channels
        && [z, y, x].iter().zip(product).all(|(&n, p)| n > 0 && n % p as i64 == 0));
    if fits {
        return Ok(());
    }
    let [pz, py, px] = product;
    Err(Error::Shape {
        what: "the network's input".into(),
        expected: format!(
            "[n, {channels}, z, y, x] with n above 0 and z, y, x divisible by {pz}, {py}, {px}"
        ),
        found: size,
    })
}
