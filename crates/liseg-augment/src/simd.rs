//! Loops compiled for the vector units of the machine at hand.
//!
//! Programs are built for any x86-64, whose vectors hold four floats. The loops of this crate are
//! plain Rust that the compiler vectorises; [`vectorised`] compiles them again for AVX2 and AVX-512
//! and chooses at run time. Rust never fuses a multiplication with an addition by itself, so all
//! versions give the same bits.

/// The widest vectors that a processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// What every processor has.
    Any,
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    /// Asks the processor; the standard library remembers the answer.
    #[inline]
    pub(crate) fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                return Self::Avx512;
            }
            if has!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Any
    }
}

/// Defines a function whose body is compiled for each [`Width`]. What it calls should be marked
/// `#[inline(always)]`.
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        $visible:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $answer:ty)? $body:block
    ) => {
        $(#[$meta])*
        $visible fn $name($($argument: $kind),*) $(-> $answer)? {
            #[inline(always)]
            fn plain($($argument: $kind),*) $(-> $answer)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $kind),*) $(-> $answer)? {
                plain($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $kind),*) $(-> $answer)? {
                plain($($argument),*)
            }

            match $crate::simd::Width::of_this_processor() {
                $crate::simd::Width::Any => plain($($argument),*),
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Width::Avx2 => {
                    #[expect(unsafe_code, reason = "instructions are chosen at run time")]
                    // SAFETY: the processor was asked for these features.
                    unsafe {
                        avx2($($argument),*)
                    }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Width::Avx512 => {
                    #[expect(unsafe_code, reason = "instructions are chosen at run time")]
                    // SAFETY: the processor was asked for these features.
                    unsafe {
                        avx512($($argument),*)
                    }
                }
            }
        }
    };
}

pub(crate) use vectorised;
