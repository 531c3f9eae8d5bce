//! Random numbers, for jitter and for names that must not collide.

/// A random number, from the seed that the standard library takes from the system for its hash
/// maps: good enough for jitter, and no further dependency.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// The same in 0.0..1.0.
pub fn random() -> f64 {
    (seed() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_stay_in_their_range_and_differ() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(numbers.iter().any(|n| *n != numbers[0]));
    }
}
