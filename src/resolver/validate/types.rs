//! Type bit maps of NSEC and NSEC3 (RFC 4034 §4.1.2, RFC 5155 §3.2.1).

use hickory_proto::rr::RecordType;

/// NXNAME: in a bit map it says that the name does not exist (RFC 9824 §3).
pub(super) const NXNAME: u16 = 128;

/// The types present at a name; only well-formed maps can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeBitmap(Box<[u8]>);

impl TypeBitmap {
    /// Checks the form: window blocks in rising order, each of 1 to 32 octets.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let mut last = None;
        for (window, _) in blocks(octets) {
            let window = window?;
            if last.is_some_and(|last| last >= window) {
                return None;
            }
            last = Some(window);
        }
        Some(Self(octets.into()))
    }

    /// Whether the type is present.
    pub fn has(&self, rtype: RecordType) -> bool {
        let [wanted, low] = u16::from(rtype).to_be_bytes();
        blocks(&self.0)
            .find(|(window, _)| *window == Some(wanted))
            .and_then(|(_, bits)| bits.get(usize::from(low >> 3)).copied())
            .is_some_and(|octet| octet & (0x80 >> (low & 7)) != 0)
    }

    /// The types present, in rising order.
    pub fn types(&self) -> impl Iterator<Item = RecordType> + '_ {
        blocks(&self.0).filter_map(|(window, bits)| window.map(|window| (window, bits))).flat_map(|(window, bits)| {
            let all = bits.iter().enumerate().flat_map(|(at, octet)| (0..8).map(move |bit| (at, *octet, bit)));
            all.filter(|(_, octet, bit)| octet & (0x80 >> bit) != 0)
                .map(move |(at, _, bit)| RecordType::from(u16::from(window) << 8 | (at as u16) << 3 | bit as u16))
        })
    }

    /// Whether this is the map of a name that does not exist, denied compactly (RFC 9824 §3.1): NXNAME and
    /// nothing but what signing adds.
    pub fn is_nxname(&self) -> bool {
        self.has(RecordType::from(NXNAME))
            && self
                .types()
                .all(|rtype| matches!(rtype, RecordType::NSEC | RecordType::RRSIG) || u16::from(rtype) == NXNAME)
    }
}

/// Window blocks as number and bits; a malformed rest gives one block without number.
fn blocks(octets: &[u8]) -> impl Iterator<Item = (Option<u8>, &[u8])> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let block = match rest {
            [] => return None,
            [window, length @ 1..=32, after @ ..] => {
                after.split_at_checked(usize::from(*length)).map(|(bits, after)| (*window, bits, after))
            }
            _ => None,
        };
        let (window, bits, after) = match block {
            Some((window, bits, after)) => (Some(window), bits, after),
            None => (None, &[][..], &[][..]),
        };
        rest = after;
        Some((window, bits))
    })
}
