//! Hints to the cache.
#![allow(unsafe_code, reason = "the instruction is an intrinsic, which is unsafe to call")]

/// Prefetches the cache line that holds `place`. Nothing is read, so any address will do. Does nothing but on x86-64.
#[inline]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which has no effect but on time, whatever the address; every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
