//! The passes over a task's part of a map.
//!
//! Maps are cut into rows of whole voxels, all but the last of the length of the sums and constants that go with them. Each
//! loop runs along a row, where it becomes vectors.

use super::super::Element;
use super::super::vectorised::Loop;

/// Σ x and Σ x², for each number of a row.
pub(super) struct AddUp<'a, T> {
    pub(super) x: &'a [T],
    pub(super) sums: &'a mut [f64],
    pub(super) squares: &'a mut [f64],
}

impl<T: Element> Loop for AddUp<'_, T> {
    #[inline(always)]
    fn run(self) {
        let row = self.sums.len();
        let mut fours = self.x.chunks_exact(4 * row);
        for rows in &mut fours {
            add_up_four(rows, self.sums, self.squares);
        }
        for rows in fours.remainder().chunks(row) {
            add_up(rows, self.sums, self.squares);
        }
    }
}

#[inline(always)]
fn add_up<T: Element>(row: &[T], sums: &mut [f64], squares: &mut [f64]) {
    for ((sum, square), x) in sums.iter_mut().zip(squares).zip(row) {
        let x = f64::from(x.to_f32());
        *sum += x;
        *square += x * x;
    }
}

/// [`add_up`] for four rows, which reads and writes the sums once.
#[inline(always)]
fn add_up_four<T: Element>(rows: &[T], sums: &mut [f64], squares: &mut [f64]) {
    let (first, last) = rows.split_at(rows.len() / 2);
    let (a, b) = first.split_at(first.len() / 2);
    let (c, d) = last.split_at(last.len() / 2);
    let rows = a.iter().zip(b).zip(c.iter().zip(d));
    for ((sum, square), ((a, b), (c, d))) in sums.iter_mut().zip(squares).zip(rows) {
        let [a, b] = [a, b].map(|x| f64::from(x.to_f32()));
        let [c, d] = [c, d].map(|x| f64::from(x.to_f32()));
        *sum += (a + b) + (c + d);
        *square += (a * a + b * b) + (c * c + d * d);
    }
}

/// y from x, in rows of channels' constants.
pub(super) struct Apply<'a, T> {
    /// `None` where it lies in `y`.
    pub(super) x: Option<&'a [T]>,
    pub(super) across: Option<&'a [T]>,
    pub(super) y: &'a mut [T],
    pub(super) mean: Vec<f32>,
    pub(super) factor: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) slope: f32,
}

impl<T: Element> Loop for Apply<'_, T> {
    #[inline(always)]
    fn run(self) {
        let row = self.mean.len();
        for (number, y) in self.y.chunks_mut(row).enumerate() {
            let here = number * row..number * row + y.len();
            if let Some(x) = self.x {
                y.copy_from_slice(&x[here.clone()]);
            }
            let constants = [&self.mean, &self.factor, &self.shift].map(|row| &row[..y.len()]);
            match self.across {
                Some(across) => apply_and_add(y, constants, self.slope, &across[here]),
                None => apply(y, constants, self.slope),
            }
        }
    }
}

#[inline(always)]
fn rectified(v: f32, slope: f32) -> f32 {
    if v > 0.0 { v } else { v * slope }
}

#[inline(always)]
fn apply<T: Element>(y: &mut [T], [mean, factor, shift]: [&[f32]; 3], slope: f32) {
    for (((y, mean), factor), shift) in y.iter_mut().zip(mean).zip(factor).zip(shift) {
        let v = (y.to_f32() - mean) * factor + shift;
        *y = T::of_f32(rectified(v, slope));
    }
}

#[inline(always)]
fn apply_and_add<T: Element>(
    y: &mut [T],
    [mean, factor, shift]: [&[f32]; 3],
    slope: f32,
    across: &[T],
) {
    let constants = mean.iter().zip(factor).zip(shift);
    for ((y, across), ((mean, factor), shift)) in y.iter_mut().zip(across).zip(constants) {
        let v = (y.to_f32() - mean) * factor + shift + across.to_f32();
        *y = T::of_f32(rectified(v, slope));
    }
}

/// A gradient in front of the rectifier, from that behind it and what it gave.
#[inline(always)]
fn before<T: Element>(gradient: T, y: T, slope: f32) -> f32 {
    gradient.to_f32() * if y.to_f32() > 0.0 { 1.0 } else { slope }
}

/// Σ g and Σ g·d, for each number of a row.
pub(super) struct AddUpGradient<'a, T> {
    pub(super) x: &'a [T],
    pub(super) y: &'a [T],
    pub(super) gradient: &'a [T],
    pub(super) mean: Vec<f32>,
    pub(super) slope: f32,
    pub(super) sums: &'a mut [f64],
    pub(super) products: &'a mut [f64],
}

impl<T: Element> Loop for AddUpGradient<'_, T> {
    #[inline(always)]
    fn run(self) {
        let row = self.mean.len();
        let maps = self.x.chunks(row).zip(self.y.chunks(row));
        for ((x, y), gradient) in maps.zip(self.gradient.chunks(row)) {
            let sums = (&mut *self.sums, &mut *self.products);
            add_up_gradient([x, y, gradient], &self.mean, self.slope, sums);
        }
    }
}

#[inline(always)]
fn add_up_gradient<T: Element>(
    [x, y, gradient]: [&[T]; 3],
    mean: &[f32],
    slope: f32,
    (sums, products): (&mut [f64], &mut [f64]),
) {
    let sums = sums.iter_mut().zip(products);
    for ((((sum, product), x), mean), (y, gradient)) in
        sums.zip(x).zip(mean).zip(y.iter().zip(gradient))
    {
        let g = f64::from(before(*gradient, *y, slope));
        *sum += g;
        *product += g * f64::from(x.to_f32() - mean);
    }
}

/// The gradients of x and of what was added.
pub(super) struct ApplyGradient<'a, T> {
    pub(super) x: &'a [T],
    pub(super) y: &'a [T],
    pub(super) gradient: &'a [T],
    pub(super) of_x: Option<&'a mut [T]>,
    pub(super) of_across: Option<&'a mut [T]>,
    pub(super) mean: Vec<f32>,
    /// Σ g / n and r² · Σ g·d / n.
    pub(super) moved: Vec<f32>,
    pub(super) bent: Vec<f32>,
    pub(super) factor: Vec<f32>,
    pub(super) slope: f32,
}

impl<T: Element> Loop for ApplyGradient<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        let row = self.mean.len();
        for begin in (0..self.x.len()).step_by(row) {
            let here = begin..self.x.len().min(begin + row);
            let [x, y, gradient] = [self.x, self.y, self.gradient].map(|map| &map[here.clone()]);
            if let Some(map) = &mut self.of_across {
                apply_before([y, gradient], self.slope, &mut map[here.clone()]);
            }
            if let Some(map) = &mut self.of_x {
                let constants = [&self.mean, &self.moved, &self.bent, &self.factor]
                    .map(|constants| &constants[..x.len()]);
                apply_gradient([x, y, gradient], constants, self.slope, &mut map[here]);
            }
        }
    }
}

#[inline(always)]
fn apply_before<T: Element>([y, gradient]: [&[T]; 2], slope: f32, of_across: &mut [T]) {
    for ((of_across, y), gradient) in of_across.iter_mut().zip(y).zip(gradient) {
        *of_across = T::of_f32(before(*gradient, *y, slope));
    }
}

#[inline(always)]
fn apply_gradient<T: Element>(
    [x, y, gradient]: [&[T]; 3],
    [mean, moved, bent, factor]: [&[f32]; 4],
    slope: f32,
    of_x: &mut [T],
) {
    let maps = x.iter().zip(y).zip(gradient);
    let constants = mean.iter().zip(moved).zip(bent).zip(factor);
    for ((of_x, ((x, y), gradient)), (((mean, moved), bent), factor)) in
        of_x.iter_mut().zip(maps).zip(constants)
    {
        let g = before(*gradient, *y, slope);
        *of_x = T::of_f32((g - moved - (x.to_f32() - mean) * bent) * factor);
    }
}
