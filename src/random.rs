//! Random numbers, for the seeds of machines and for names that must not collide.

/// A random number, from the seed that the standard library takes from the system for its hash
/// maps: good enough for jitter, and no further dependency.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        let seeds: Vec<u64> = (0..100).map(|_| seed()).collect();
        assert!(seeds.iter().any(|seed| *seed != seeds[0]));
    }
}
