//! Mail domains of the test world: MX hosts of every kind that design §4 tells apart, and domains that use them.

use super::fault::{Fault, On};
use super::record::rtype;
use super::world::World;
use super::zone::{Delegation, Denial, Zone};

/// A usable TLSA record: usage 3, selector 1, SHA-256.
pub const USABLE: &str = "TLSA 3 1 1 00000000000000000000000000000000000000000000000000000000000000aa";
/// An unusable one: usage 1 (RFC 7672 §3.1.3).
pub const UNUSABLE: &str = "TLSA 1 1 1 00000000000000000000000000000000000000000000000000000000000000aa";

/// MX hosts by what they have; to be used with [`break_hosts`].
pub mod host {
    pub const USABLE: &str = "usable.hosts.net.";
    pub const USABLE_TOO: &str = "usable2.hosts.net.";
    pub const UNUSABLE: &str = "unusable.hosts.net.";
    /// Secure addresses, no TLSA.
    pub const NONE: &str = "none.hosts.net.";
    /// Insecure addresses.
    pub const INSECURE: &str = "mx.plain.net.";
    /// Exists, but not with an address.
    pub const NO_ADDRESS: &str = "noaddress.hosts.net.";
    /// Does not exist.
    pub const ABSENT: &str = "absent.hosts.net.";
    /// Its zone is bogus.
    pub const BOGUS: &str = "mx.bogus.net.";
    /// Its servers are silent.
    pub const DEAD: &str = "mx.dead.net.";
    /// Secure addresses, TLSA lookup ends with SERVFAIL.
    pub const TLSA_FAILS: &str = "tlsafails.hosts.net.";
    /// Secure addresses, TLSA answer bogus.
    pub const TLSA_BOGUS: &str = "tlsabogus.hosts.net.";
}

/// Root, TLDs and the zones of the hosts.
pub fn foundation() -> Vec<Zone> {
    let records = format!(
        "usable A 192.0.2.1
         _25._tcp.usable {USABLE}
         _587._tcp.usable {USABLE}
         usable2 AAAA 2001:db8::2
         _25._tcp.usable2 {USABLE}
         unusable A 192.0.2.3
         _25._tcp.unusable {UNUSABLE}
         none A 192.0.2.4
         noaddress TXT hello
         tlsafails A 192.0.2.5
         _25._tcp.tlsafails {USABLE}
         tlsabogus A 192.0.2.6
         _25._tcp.tlsabogus {USABLE}"
    );
    let own = format!("mx A 192.0.2.9\n_25._tcp.mx {USABLE}");
    vec![
        Zone::new(".").signed(8),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("net").signed(8),
        Zone::new("hosts.net").signed(13).records(&records),
        Zone::new("plain.net").records(&own),
        Zone::new("bogus.net").signed(13).delegation(Delegation::WrongDigest).records(&own),
        Zone::new("dead.net").signed(13).records(&own),
    ]
}

/// Makes the hosts that should fail, fail.
pub fn break_hosts(world: &World) {
    world.inject(On::zone("dead.net"), Fault::Silence);
    world.inject(On::name("_25._tcp.tlsafails.hosts.net").qtype(rtype::TLSA), Fault::Code(2));
    world.inject(On::name("_25._tcp.tlsabogus.hosts.net").qtype(rtype::TLSA), Fault::BadSignatures);
}

/// A mail domain with these MX hosts, signed or not.
pub fn domain(name: &str, signed: bool, hosts: &[&str]) -> Zone {
    let mx: String = hosts.iter().enumerate().map(|(at, host)| format!("@ MX {} {host}\n", 10 * (at + 1))).collect();
    let zone = Zone::new(name).records(&mx);
    if signed { zone.signed(13) } else { zone }
}

/// What a domain adds to announce MTA-STS.
pub const STS: &str = "_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 192.0.2.80";
