//! Values as they are kept beyond the process: a version octet, then MessagePack.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that MessagePack cannot express; of the types that are kept here there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be encoded")]
pub(super) struct NotEncoded;

/// The octets of `value` under `version`.
pub(super) fn pack<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, NotEncoded> {
    let mut octets = vec![version];
    rmp_serde::encode::write(&mut octets, value).map_err(|_| NotEncoded)?;
    Ok(octets)
}

/// The value in `octets`, where they are of that version and well formed.
pub(super) fn unpack<T: DeserializeOwned>(version: u8, octets: &[u8]) -> Option<T> {
    match octets.split_first() {
        Some((found, packed)) if *found == version => rmp_serde::from_slice(packed).ok(),
        _ => None,
    }
}
