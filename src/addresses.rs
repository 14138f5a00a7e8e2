//! Which addresses a stranger may point us at.
//!
//! In: an address out of DNS. Out: whether it lies in the public Internet (IANA's IPv4 and IPv6 special-purpose
//! address registries, RFC 6890). Never asks the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True for addresses that belong to one host of the public Internet. False for this host, private and
/// shared networks, link-local, documentation, benchmarking, multicast and reserved ranges, and for IPv6
/// addresses that embed such an IPv4 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127, ..] => true,                    // this network, private (RFC 1918), loopback
        [100, b, ..] => (64..128).contains(&b),        // shared, carrier-grade NAT (RFC 6598)
        [169, 254, ..] => true,                        // link-local (RFC 3927), cloud metadata
        [172, b, ..] => (16..32).contains(&b),         // private
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => true, // IETF, documentation, 6to4 relays (RFC 7526)
        [192, 168, ..] => true,                        // private
        [198, 18 | 19, ..] => true,                    // benchmarking (RFC 2544)
        [198, 51, 100, _] | [203, 0, 113, _] => true,  // documentation (RFC 5737)
        [224..=255, ..] => true,                       // multicast, reserved, broadcast
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // NAT64's well-known prefix leads to the IPv4 address inside (RFC 6052 §3.1).
        (0x0064, 0xff9b) => [c, d, e, f] == [0; 4] && embedded(g, h),
        (0x2002, _) => embedded(b, c),                         // 6to4 (RFC 3056)
        (0x2001, 0x0000..=0x01ff) => false,                    // IETF protocols, Teredo, benchmarking, ORCHID
        (0x2001, 0x0db8) | (0x3fff, 0x0000..=0x0fff) => false, // documentation
        // All else that is routed is global unicast; this leaves out mapped and compatible IPv4, loopback,
        // unique local, link-local, multicast and discard addresses (RFC 4291 §2.4).
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_public_internet_are_public() {
        for text in [
            "198.41.0.4",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.175.48.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:503:ba3e::2:30",
            "2001:200::1",
            "2a00::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(is_public(text.parse().expect("an address")), "{text} is public");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.251",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "64:ff9b:0:1::1.1.1.1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text} is special");
        }
    }
}
