//! Which instructions signatures and hashes are computed by: libraries choose at start, by what the processor has, and
//! figures of two machines can not be compared without knowing what.

use std::fmt;

use super::wide;

/// What the libraries took on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// What curve25519-dalek multiplies points by: `serial`, `fiat`, `avx2` or `avx512ifma`.
    pub curve25519: &'static str,
    /// What blake3 hashes by: `portable`, `sse2`, `sse41`, `avx2`, `avx512` or `neon`.
    pub blake3: String,
}

impl Backends {
    /// Of this process.
    #[must_use]
    pub fn here() -> Self {
        Self { curve25519: curve25519(), blake3: wide::platform() }
    }

    /// Whether the processor could do more than this build was made for: curve25519-dalek has its AVX-512 code only in
    /// builds that may use these instructions everywhere.
    #[must_use]
    pub fn could_use_avx512(&self) -> bool {
        self.curve25519 == "avx2" && has_avx512_ifma()
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "curve25519 by {}, BLAKE3 by {}", self.curve25519, self.blake3)
    }
}

/// The back end of curve25519-dalek. It does not tell: this is the choice of its `build.rs` (by target and flags, which
/// are the same for all crates of a build) and of `backend::get_selected_backend` (by processor), as of version 5.0.
fn curve25519() -> &'static str {
    if cfg!(curve25519_dalek_backend = "fiat") {
        return "fiat";
    }
    let capable = cfg!(all(target_arch = "x86_64", target_pointer_width = "64", not(curve25519_dalek_bits = "32")));
    if !capable || cfg!(curve25519_dalek_backend = "serial") {
        return "serial";
    }
    let by_target = cfg!(all(target_feature = "avx512ifma", target_feature = "avx512vl"));
    let with_avx512 =
        cfg!(curve25519_dalek_backend = "avx512") || by_target && !cfg!(curve25519_dalek_backend = "simd");
    if with_avx512 && has_avx512_ifma() {
        "avx512ifma"
    } else if has_avx2() {
        "avx2"
    } else {
        "serial"
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_ifma() -> bool {
    std::arch::is_x86_feature_detected!("avx512ifma") && std::arch::is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_avx512_ifma() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_avx2() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of the libraries was read in their sources: of another version it has to be read again.
    #[test]
    fn the_libraries_are_those_whose_choice_is_told() {
        let lock = include_str!("../../../Cargo.lock");
        for package in ["name = \"curve25519-dalek\"\nversion = \"5.0.", "name = \"blake3\"\nversion = \"1.8.7\""] {
            assert!(lock.contains(package), "Cargo.lock lacks {package}: see whether backends.rs is still right");
        }
    }

    #[test]
    fn both_are_told_and_the_processor_has_what_is_told() {
        let backends = Backends::here();
        assert!(["serial", "fiat", "avx2", "avx512ifma"].contains(&backends.curve25519), "{backends}");
        assert!(
            ["portable", "sse2", "sse41", "avx2", "avx512", "neon"].contains(&backends.blake3.as_str()),
            "{backends}"
        );
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
            let by_avx = |backend: &str| backend.starts_with("avx");
            assert_eq!(by_avx(&backends.blake3), has_avx2, "{backends}");
            if cfg!(not(any(curve25519_dalek_backend = "serial", curve25519_dalek_backend = "fiat"))) {
                assert_eq!(by_avx(backends.curve25519), has_avx2, "{backends}");
            }
        }
        let told = Backends { curve25519: "avx2", blake3: "avx512".into() };
        assert_eq!(told.to_string(), "curve25519 by avx2, BLAKE3 by avx512");
        assert_eq!(told.could_use_avx512(), has_avx512_ifma());
        assert!(!Backends { curve25519: "serial", ..told }.could_use_avx512());
    }
}
