//! Loops compiled for the vector units of the machine at hand.
//!
//! Programs are built for any x86-64, whose vectors hold four floats. The loops of this crate are
//! plain Rust that the compiler vectorises; here they are compiled again for AVX2 and AVX-512, and
//! the widest that the processor has is chosen at run time. Rust never fuses a multiplication with
//! an addition by itself, so all of them give the same bits.

/// Runs `work` compiled for the widest vectors of this processor.
///
/// `work` should do nothing but call a function marked `#[inline(always)]`: only what is inlined
/// here is compiled anew.
#[inline]
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            #[expect(unsafe_code, reason = "only a run-time test can choose instructions")]
            // SAFETY: the processor has the features, as was asked above.
            return unsafe { x86::avx512(work) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "only a run-time test can choose instructions")]
            // SAFETY: the processor has the feature, as was asked above.
            return unsafe { x86::avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn avx512<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
}
