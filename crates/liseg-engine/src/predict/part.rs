//! One machine's share of a cohort.

/// Every N-th image, beginning with the I-th: written `I/N`, as in `2/4`.
///
/// ```
/// use liseg_engine::predict::Part;
/// let part: Part = "2/3".parse()?;
/// assert_eq!(part.of(&["a", "b", "c", "d", "e"]), [&"b", &"e"]);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    index: usize,
    count: usize,
}

impl Part {
    /// The items of this part; all parts together are all items, each once.
    pub fn of<T>(self, items: &[T]) -> Vec<&T> {
        let first = self.index - 1;
        items.iter().skip(first).step_by(self.count).collect()
    }
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            _ => Err("expected I/N with 1 ≤ I ≤ N, as in 2/4".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_out_every_image_once() {
        let images: Vec<usize> = (0..10).collect();
        for count in 1..=12 {
            let mut together: Vec<usize> = (1..=count)
                .flat_map(|index| Part { index, count }.of(&images))
                .copied()
                .collect();
            together.sort_unstable();
            assert_eq!(together, images, "{count} parts");
        }
        assert_eq!("2/4".parse(), Ok(Part { index: 2, count: 4 }));
        for wrong in ["0/4", "5/4", "2", "a/b", "1/0", ""] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
