//! What is asked: requests made once as netstrings, and names that nobody has asked for yet.

use std::io::Write;
use std::path::Path;

/// Requests, ready to be sent.
pub struct Keys {
    known: Vec<Box<[u8]>>,
    map: String,
    /// Zone below which fresh names are asked for, and of how many requests.
    fresh: Option<(String, f64)>,
}

/// A request and whether it is for a fresh name.
pub struct Request<'a> {
    pub octets: &'a [u8],
    pub fresh: bool,
}

impl Keys {
    /// Requests to `map` for these keys.
    pub fn new<'k>(map: &str, keys: impl Iterator<Item = &'k str>, fresh: Option<(String, f64)>) -> Self {
        Self { known: keys.map(|key| netstring(map, key).into()).collect(), map: map.to_owned(), fresh }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The request at `index`, counted round.
    pub fn at(&self, index: usize) -> Request<'_> {
        Request { octets: &self.known[index % self.known.len()], fresh: false }
    }

    /// Any request; `scratch` is where a fresh one is made.
    pub fn any<'s>(&'s self, dice: &mut Dice, scratch: &'s mut Vec<u8>) -> Request<'s> {
        if let Some((zone, ratio)) = &self.fresh
            && (self.known.is_empty() || dice.fraction() < *ratio)
        {
            *scratch = netstring(&self.map, &format!("x{:016x}.{zone}", dice.roll()));
            return Request { octets: scratch, fresh: true };
        }
        self.at(dice.roll() as usize)
    }
}

/// One key a line.
pub fn read(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn netstring(map: &str, key: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(map.len() + key.len() + 8);
    write!(octets, "{}:{map} {key},", map.len() + 1 + key.len()).unwrap();
    octets
}

/// Cheap randomness (xorshift64*), seeded by the system.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        Self(rand::random::<u64>() | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
    }

    fn fraction(&mut self) -> f64 {
        (self.roll() >> 10) as f64 / (1_u64 << 53) as f64
    }
}
