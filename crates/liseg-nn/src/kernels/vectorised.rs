//! Loops compiled for the vector units of the processor at hand.
//!
//! Programs are built for any x86-64, whose vectors hold four floats. A loop that is plain Rust is compiled again for AVX2
//! and AVX-512. Rust never fuses a multiplication with an addition by itself, so that all give the same bits.

/// A loop; `run` should be `#[inline(always)]`, and so should what it calls.
pub(crate) trait Loop {
    fn run(self);
}

/// Runs a loop as it was compiled for the widest vectors of this processor.
pub(crate) fn vectorised<L: Loop>(it: L) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;

        #[target_feature(enable = "avx2")]
        fn avx2<L: Loop>(it: L) {
            it.run();
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<L: Loop>(it: L) {
            it.run();
        }

        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            #[expect(unsafe_code, reason = "instructions are chosen at run time")]
            // SAFETY: the processor was asked for these features.
            unsafe {
                avx512(it);
            }
            return;
        }
        if has!("avx2") {
            #[expect(unsafe_code, reason = "instructions are chosen at run time")]
            // SAFETY: the processor was asked for this feature.
            unsafe {
                avx2(it);
            }
            return;
        }
    }
    it.run();
}
