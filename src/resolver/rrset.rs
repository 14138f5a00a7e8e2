//! RRsets as they came off the wire, and their canonical form.
//!
//! RDATA is kept as octets with all names expanded, case preserved: unknown types and types that
//! `hickory-proto` has no structure for (DNAME) cache, verify and travel like any other.

use std::sync::Arc;

use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding};

/// All records of one owner and type from one section of one message, with the signatures that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    /// Owner, lower case.
    pub name: Name,
    /// Type; never RRSIG or OPT.
    pub rtype: RecordType,
    /// Least TTL of its records (RFC 2181 §5.2), not yet clamped by signatures.
    pub ttl: u32,
    /// RDATA of each record, uncompressed, without duplicates (RFC 2181 §5).
    pub rdatas: Vec<Box<[u8]>>,
    /// RRSIGs that cover this type at this owner, in the order they came.
    pub sigs: Vec<Rrsig>,
}

/// An RRSIG (RFC 4034 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrsig {
    /// Type covered.
    pub covered: RecordType,
    /// Algorithm number (IANA).
    pub algorithm: u8,
    /// Labels of the owner without root and wildcard.
    pub labels: u8,
    /// TTL of the RRset in its zone.
    pub original_ttl: u32,
    /// End of validity, seconds since 1970 modulo 2³² (RFC 1982 arithmetic).
    pub expiration: u32,
    /// Begin of validity, likewise.
    pub inception: u32,
    /// Tag of the signing key.
    pub key_tag: u16,
    /// Name of the zone that signed, lower case.
    pub signer: Name,
    /// The signature.
    pub signature: Box<[u8]>,
    /// TTL of the RRSIG record itself.
    pub ttl: u32,
}

/// Octets that do not have the form their type prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed RDATA")]
pub struct MalformedRdata;

impl RrSet {
    /// The records as structures; records that `hickory-proto` cannot parse are an error.
    pub fn parsed(&self) -> Result<Vec<RData>, MalformedRdata> {
        self.rdatas.iter().map(|rdata| parse_rdata(self.rtype, rdata)).collect()
    }

    /// RDATA of each record in canonical form and order (RFC 4034 §6.2, §6.3; RFC 6840 §5.1).
    pub fn canonical_rdatas(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = self
            .rdatas
            .iter()
            .map(|rdata| canonical_rdata(self.rtype, rdata).unwrap_or_else(|_| rdata.to_vec()))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The name that an RRset of CNAME, DNAME, NS or PTR points to, per record.
    pub fn target_names(&self) -> Vec<Name> {
        self.rdatas.iter().filter_map(|rdata| read_name(rdata).ok().map(|(name, _)| name.to_lowercase())).collect()
    }

    /// Octets this set holds in memory while it is worked with, roughly; the cache keeps and counts a packed form.
    pub fn bytes(&self) -> usize {
        let rdata: usize = self.rdatas.iter().map(|r| r.len() + 16).sum();
        let sigs: usize = self.sigs.iter().map(|s| s.signature.len() + 160).sum();
        size_of::<Self>() + rdata + sigs
    }
}

/// Shared RRset, as caches and answers hold it.
pub type SharedRrSet = Arc<RrSet>;

impl Rrsig {
    /// Parses uncompressed RDATA of type RRSIG.
    pub fn parse(rdata: &[u8], ttl: u32) -> Result<Self, MalformedRdata> {
        let (fixed, rest) = rdata.split_first_chunk::<18>().ok_or(MalformedRdata)?;
        let [c0, c1, algorithm, labels, o0, o1, o2, o3, e0, e1, e2, e3, i0, i1, i2, i3, t0, t1] = *fixed;
        let (signer, used) = read_name(rest)?;
        let signature = rest.get(used..).filter(|s| !s.is_empty()).ok_or(MalformedRdata)?;
        Ok(Self {
            covered: RecordType::from(u16::from_be_bytes([c0, c1])),
            algorithm,
            labels,
            original_ttl: u32::from_be_bytes([o0, o1, o2, o3]),
            expiration: u32::from_be_bytes([e0, e1, e2, e3]),
            inception: u32::from_be_bytes([i0, i1, i2, i3]),
            key_tag: u16::from_be_bytes([t0, t1]),
            signer: signer.to_lowercase(),
            signature: signature.into(),
            ttl,
        })
    }

    /// RDATA up to the signature, signer in canonical form: the first part of what is signed
    /// (RFC 4034 §3.1.8.1), and, followed by the signature, the RDATA itself.
    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18 + 64);
        out.extend_from_slice(&u16::from(self.covered).to_be_bytes());
        out.extend_from_slice(&[self.algorithm, self.labels]);
        out.extend_from_slice(&self.original_ttl.to_be_bytes());
        out.extend_from_slice(&self.expiration.to_be_bytes());
        out.extend_from_slice(&self.inception.to_be_bytes());
        out.extend_from_slice(&self.key_tag.to_be_bytes());
        out.extend_from_slice(&wire_name(&self.signer));
        out
    }
}

/// One field of an RDATA layout.
#[derive(Clone, Copy)]
enum Field {
    /// This many octets.
    Fixed(usize),
    /// A domain name, compressed or not.
    Name,
    /// A character-string (length octet first).
    Text,
}

/// How RDATA of types with embedded names is laid out (RFC 1035 §3.3, RFC 3597 §4); what follows the
/// last field is opaque. Empty: no names, opaque altogether.
fn layout(rtype: RecordType) -> &'static [Field] {
    use Field::{Fixed, Name, Text};
    match u16::from(rtype) {
        // NS MD MF CNAME MB MG MR PTR NSAP-PTR NXT DNAME NSEC
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 23 | 30 | 39 | 47 => &[Name],
        6 => &[Name, Name, Fixed(20)],             // SOA
        14 | 17 => &[Name, Name],                  // MINFO RP
        15 | 18 | 21 | 36 => &[Fixed(2), Name],    // MX AFSDB RT KX
        24 | 46 => &[Fixed(18), Name],             // SIG RRSIG
        26 => &[Fixed(2), Name, Name],             // PX
        33 => &[Fixed(6), Name],                   // SRV
        35 => &[Fixed(4), Text, Text, Text, Name], // NAPTR
        _ => &[],
    }
}

/// Whether embedded names are lower-cased for signing: RFC 4034 §6.2 without NSEC (RFC 6840 §5.1).
fn lowercases(rtype: RecordType) -> bool {
    u16::from(rtype) != 47
}

/// Exact length RDATA must have, or the least one, for the types the engine itself reads.
fn length_fits(rtype: RecordType, length: usize) -> bool {
    match rtype {
        RecordType::A => length == 4,
        RecordType::AAAA => length == 16,
        RecordType::DS | RecordType::DNSKEY => length > 4,
        RecordType::NSEC3 => length > 5,
        _ => true,
    }
}

/// Expands the RDATA at `decoder` (of `length` octets) into uncompressed octets, case preserved.
pub fn expand_rdata(
    rtype: RecordType,
    decoder: &mut BinDecoder<'_>,
    length: usize,
) -> Result<Box<[u8]>, MalformedRdata> {
    if !length_fits(rtype, length) {
        return Err(MalformedRdata);
    }
    let end = decoder.index() + length;
    let mut out = Vec::with_capacity(length);
    if length > 0 {
        walk(rtype, decoder, &mut out, false)?;
    }
    let rest = end.checked_sub(decoder.index()).ok_or(MalformedRdata)?;
    let rest = decoder.read_slice(rest).map_err(|_| MalformedRdata)?.unverified();
    if !rest.is_empty() && is_complete(rtype) {
        return Err(MalformedRdata);
    }
    out.extend_from_slice(rest);
    Ok(out.into())
}

/// Types whose layout says all: nothing may follow.
fn is_complete(rtype: RecordType) -> bool {
    !layout(rtype).is_empty() && !matches!(u16::from(rtype), 24 | 30 | 46 | 47)
}

/// Uncompressed RDATA in canonical form (RFC 4034 §6.2).
pub fn canonical_rdata(rtype: RecordType, rdata: &[u8]) -> Result<Vec<u8>, MalformedRdata> {
    if layout(rtype).is_empty() || !lowercases(rtype) {
        return Ok(rdata.to_vec());
    }
    let mut decoder = BinDecoder::new(rdata);
    let mut out = Vec::with_capacity(rdata.len());
    walk(rtype, &mut decoder, &mut out, true)?;
    out.extend_from_slice(rdata.get(decoder.index()..).ok_or(MalformedRdata)?);
    Ok(out)
}

fn walk(rtype: RecordType, decoder: &mut BinDecoder<'_>, out: &mut Vec<u8>, lower: bool) -> Result<(), MalformedRdata> {
    for field in layout(rtype) {
        match field {
            Field::Fixed(octets) => {
                out.extend_from_slice(decoder.read_slice(*octets).map_err(|_| MalformedRdata)?.unverified());
            }
            Field::Name => {
                let name = Name::read(decoder).map_err(|_| MalformedRdata)?;
                push_name(out, &name, lower);
            }
            Field::Text => {
                let text = decoder.read_character_data().map_err(|_| MalformedRdata)?.unverified();
                out.push(u8::try_from(text.len()).map_err(|_| MalformedRdata)?);
                out.extend_from_slice(text);
            }
        }
    }
    Ok(())
}

/// Reads a name at the start of uncompressed octets; gives it and how many octets it took.
pub fn read_name(octets: &[u8]) -> Result<(Name, usize), MalformedRdata> {
    let mut decoder = BinDecoder::new(octets);
    let name = Name::read(&mut decoder).map_err(|_| MalformedRdata)?;
    Ok((name, decoder.index()))
}

/// A name in uncompressed wire form, lower case (RFC 4034 §6.2).
pub fn wire_name(name: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 1);
    push_name(&mut out, name, true);
    out
}

fn push_name(out: &mut Vec<u8>, name: &Name, lower: bool) {
    for label in name.iter() {
        // A label has at most 63 octets: hickory's Name enforces RFC 1035 §2.3.4.
        out.push(label.len() as u8);
        if lower {
            out.extend(label.iter().map(u8::to_ascii_lowercase));
        } else {
            out.extend_from_slice(label);
        }
    }
    out.push(0);
}

/// Uncompressed RDATA as `hickory-proto`'s structure.
pub fn parse_rdata(rtype: RecordType, rdata: &[u8]) -> Result<RData, MalformedRdata> {
    let length = u16::try_from(rdata.len()).map_err(|_| MalformedRdata)?;
    let mut decoder = BinDecoder::new(rdata);
    RData::read(&mut decoder, rtype, hickory_proto::serialize::binary::Restrict::new(length))
        .map_err(|_| MalformedRdata)
}

/// A `hickory-proto` structure as uncompressed RDATA; for records that did not come off the wire.
pub fn encode_rdata(rdata: &RData) -> Result<Box<[u8]>, MalformedRdata> {
    let mut out = Vec::new();
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    rdata.emit(&mut encoder).map_err(|_| MalformedRdata)?;
    Ok(out.into())
}
