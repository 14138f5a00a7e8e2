//! Randomness of queries: ids, case, cookies, and the choice among equals.

use std::time::Duration;

use hickory_proto::rr::Name;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A cryptographic generator, shared.
pub(super) struct Random(Mutex<StdRng>);

impl Random {
    /// Seeded by the system.
    pub fn from_system() -> Self {
        Self(Mutex::new(StdRng::from_rng(&mut rand::rng())))
    }

    /// Predictable: for tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A client cookie (RFC 7873 §4.1).
    pub fn cookie(&self) -> [u8; 8] {
        self.0.lock().random()
    }

    /// A transaction id and `name`, with random case where wanted (0x20): one bit of protection per letter.
    pub fn id_and_name(&self, name: &Name, mixed_case: bool) -> (u16, Name) {
        let mut random = self.0.lock();
        let id = random.random();
        if !mixed_case {
            return (id, name.clone());
        }
        let labels = name.iter().map(|label| {
            let flip = |octet: &u8| if octet.is_ascii_alphabetic() && random.random() { octet ^ 0x20 } else { *octet };
            label.iter().map(flip).collect::<Vec<u8>>()
        });
        let labels: Vec<Vec<u8>> = labels.collect();
        let mixed = Name::from_labels(labels.iter().map(Vec::as_slice));
        (id, mixed.unwrap_or_else(|_| name.clone()))
    }

    /// Puts these into a random order.
    pub fn shuffle<T>(&self, them: &mut [T]) {
        if them.len() > 1 {
            them.shuffle(&mut *self.0.lock());
        }
    }

    /// `value`, a tenth more or less, so that equals share the load.
    pub fn jitter(&self, value: Duration) -> Duration {
        value.mul_f64(self.0.lock().random_range(0.9..1.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn mixed_case_changes_letters_only_and_in_both_directions() {
        let random = Random::from_seed(7);
        let name = Name::from_str("_25._tcp.mail-relay.example.com.").expect("a name");
        let (_, mixed) = random.id_and_name(&name, true);
        assert_eq!(mixed, name);
        assert!(!mixed.eq_case(&name));
        let text = mixed.to_ascii();
        assert!(text.contains(|c: char| c.is_ascii_lowercase()) && text.contains(|c: char| c.is_ascii_uppercase()));
        assert!(random.id_and_name(&name, false).1.eq_case(&name));
    }
}
