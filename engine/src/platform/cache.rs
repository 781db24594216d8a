//! Hints to the cache.
#![allow(unsafe_code, reason = "the instruction is an intrinsic, which is unsafe to call")]

/// Has the line in which `place` lies brought to the cache, to be there when it is needed. Nothing is read, so it need
/// not be a place that exists.
#[inline]
pub fn bring<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which has no effect but on time, whatever the address; every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
