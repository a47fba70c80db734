//! The folds that nnU-Net makes when it is not given any.

use super::Fold;
use crate::{Error, Result};

/// nnU-Net's folds: ids sorted, shuffled with its seed, cut into consecutive blocks that differ by at
/// most one case. Patients and vendors are not looked at; [`folds`](crate::folds()) does.
///
/// With `count` 5 and `seed` 12345 the result is the `splits_final.json` that nnU-Net writes.
///
/// # Errors
/// [`Error::Setting`] when there are fewer than two folds, or fewer cases than folds.
///
/// # Source
/// nnU-Net v2, through scikit-learn's shuffled k-fold on NumPy's legacy Mersenne Twister.
pub fn nnunet_folds(ids: &[String], count: usize, seed: u32) -> Result<Vec<Fold>> {
    if count < 2 || ids.len() < count {
        let reason = format!("{count} folds of {} cases cannot be made", ids.len());
        return Err(Error::setting("folds", reason));
    }
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort();
    let mut order: Vec<usize> = (0..sorted.len()).collect();
    let mut twister = Twister::new(seed);
    for i in (1..order.len()).rev() {
        let j = twister.up_to(i as u32) as usize;
        order.swap(i, j);
    }
    let (size, longer) = (order.len() / count, order.len() % count);
    let mut start = 0;
    let mut folds = Vec::with_capacity(count);
    for fold in 0..count {
        let end = start + size + usize::from(fold < longer);
        let mut kept_back = order[start..end].to_vec();
        kept_back.sort_unstable();
        let pick = |inside: bool| {
            (0..sorted.len())
                .filter(|index| kept_back.binary_search(index).is_ok() == inside)
                .map(|index| sorted[index].clone())
                .collect()
        };
        folds.push(Fold {
            training: pick(false),
            validation: pick(true),
            unlabelled: None,
        });
        start = end;
    }
    Ok(folds)
}

/// MT19937 (Matsumoto and Nishimura 1998), seeded with one number.
struct Twister {
    state: [u32; 624],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for k in 1..624 {
            let last = state[k - 1];
            state[k] = (last ^ (last >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(k as u32);
        }
        Self { state, next: 624 }
    }

    fn draw(&mut self) -> u32 {
        if self.next == 624 {
            for k in 0..624 {
                let mixed =
                    (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % 624] & 0x7fff_ffff);
                let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[k] = self.state[(k + 397) % 624] ^ (mixed >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform on 0 to `most`, both included, by masking and rejecting.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX >> most.leading_zeros().min(31);
        loop {
            let value = self.draw() & mask;
            if value <= most {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::from_value;

    #[test]
    fn golden_crossval_split() {
        let golden = testing::golden("nnunet/sampling.json");
        for row in testing::table(&golden, "crossval_split") {
            let n: usize = from_value(row["n"].clone()).unwrap();
            let mut ids: Vec<String> = (0..n).map(|i| format!("case_{i:03}")).collect();
            ids.reverse();
            let folds = nnunet_folds(&ids, 5, 12345).unwrap();
            let found: Vec<Vec<String>> = folds.iter().map(|f| f.validation.clone()).collect();
            assert_eq!(
                found,
                from_value::<Vec<Vec<String>>>(row["val"].clone()).unwrap()
            );
            for fold in folds {
                assert_eq!(fold.training.len() + fold.validation.len(), n);
                assert!(fold.training.iter().all(|id| !fold.validation.contains(id)));
            }
        }
    }

    /// The first outputs of MT19937 with the seed 5489 are known from its publication.
    #[test]
    fn the_twister_is_the_published_one() {
        let mut twister = Twister::new(5489);
        let first: Vec<u32> = (0..3).map(|_| twister.draw()).collect();
        assert_eq!(first, [3_499_211_612, 581_869_302, 3_890_346_734]);
        assert!((0..200).all(|_| twister.up_to(0) == 0 && twister.up_to(6) <= 6));
    }

    #[test]
    fn refuses_more_folds_than_cases() {
        let ids: Vec<String> = vec!["a".into(), "b".into()];
        assert!(nnunet_folds(&ids, 3, 1).is_err() && nnunet_folds(&ids, 1, 1).is_err());
    }
}
