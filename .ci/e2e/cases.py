"""The cases: what each domain is like, what postseal must answer for it, and what Postfix must do with its mail."""

import dataclasses

from world import Domain, Host, enforce

DANE = r"OK dane-only$"
NOTHING = r"NOTFOUND $"


@dataclasses.dataclass
class Case:
    """One recipient and the outcome, the same at every security level of Postfix."""

    name: str
    recipient: str
    answer: str  # a regular expression for postseal's reply
    tls: str | None  # Postfix's word for the session in which it delivers; None: without TLS
    host: str | None = None  # where the mail arrives (name:port); None: it must be deferred
    reason: str = ""  # of the deferral, a regular expression
    domains: list = dataclasses.field(default_factory=list)
    next_hop: str | None = None  # from transport_maps; also the key that Postfix asks for
    override: str | None = None
    smtputf8: bool = False

    @property
    def key(self):
        """What Postfix asks for."""
        return self.next_hop or self.recipient.rpartition("@")[2]

    @property
    def dane(self):
        """Whether Postfix itself must see validated DNS for it."""
        return self.answer.startswith("OK dane")


def delivered(name, domain, answer, tls, host, **more):
    return Case(name, f"user@{domain}", answer, tls, host, **more)


def deferred(name, domain, answer, reason, **more):
    return Case(name, f"user@{domain}", answer, None, None, reason, **more)


# What Postfix 3.7 says: by its own resolver's SERVFAIL, by TEMP from the table, by a certificate that does not fit.
LOOKUP_FAILED = r"Name service error for name=\S+ type=MX|client TLS configuration problem"
TABLE_FAILED = r"client TLS configuration problem"
NOT_VERIFIED = r"Server certificate not (verified|trusted)"

CASES = [
    # --- DANE
    delivered(
        "matching TLSA: verified",
        "dane.com",
        DANE,
        "Verified",
        "mx.dane.com:25",
        domains=[Domain("dane.com", "RSASHA256", "nsec3", [Host("mx", tlsa={25: "key"})])],
    ),
    delivered(
        "TLSA of the issuing authority: verified",
        "dane-ta.net",
        DANE,
        "Verified",
        "mx.dane-ta.net:25",
        domains=[Domain("dane-ta.net", "ECDSAP256SHA256", "nsec", [Host("mx", "authority", {25: "authority"})])],
    ),
    deferred(
        "mismatching TLSA: deferred",
        "dane-mismatch.org",
        DANE,
        NOT_VERIFIED,
        domains=[Domain("dane-mismatch.org", "ED25519", "nsec3", [Host("mx", tlsa={25: "other-key"})])],
    ),
    deferred(
        "TLSA, but no STARTTLS: deferred",
        "dane-clear.com",
        DANE,
        r"TLS is required",
        domains=[Domain("dane-clear.com", "ECDSAP256SHA256", "nsec3", [Host("mx", None, {25: "other-key"})])],
    ),
    delivered(
        "unusable TLSA only: encrypted, not verified",
        "dane-unusable.net",
        r"OK dane$",
        "Untrusted",
        "mx.dane-unusable.net:25",
        domains=[Domain("dane-unusable.net", "RSASHA256", "nsec", [Host("mx", tlsa={25: "unusable"})])],
    ),
    delivered(
        "second MX host with failing DNS: the first gets the mail",
        "dane-servfail.com",
        # The other host is in an unsigned zone, so it has no TLSA records, whatever its servers do.
        r"OK dane$",
        "Verified",
        "mx1.dane-servfail.com:25",
        domains=[
            Domain(
                "dane-servfail.com",
                "ED25519",
                "nsec",
                [Host("mx1", tlsa={25: "key"})],
                mx=[(10, "mx1.dane-servfail.com"), (20, "mx2.failing.net")],
            ),
            Domain("failing.net", fault="servfail"),
        ],
    ),
    delivered(
        "first MX host with silent DNS: the second gets the mail",
        "dane-silent.com",
        # The other host is in an unsigned zone, so it has no TLSA records, whatever its servers do.
        r"OK dane$",
        "Verified",
        "mx2.dane-silent.com:25",
        domains=[
            Domain(
                "dane-silent.com",
                "RSASHA256",
                "nsec3",
                [Host("mx2", tlsa={25: "key"})],
                mx=[(10, "mx1.silent.net"), (20, "mx2.dane-silent.com")],
            ),
            Domain("silent.net", fault="silent"),
        ],
    ),
    delivered(
        "MX host is an alias, TLSA only at its target: verified",
        "aliased.com",
        DANE,
        "Verified",
        "mx.hoster.net:25",
        domains=[
            Domain(
                "aliased.com",
                "ECDSAP256SHA256",
                "nsec3",
                mx=[(10, "mail.aliased.com")],
                records=["mail CNAME mx.hoster.net."],
            ),
            Domain("hoster.net", "ECDSAP256SHA256", "nsec", [Host("mx", "authority", {25: "key", 587: "key"})]),
        ],
    ),
    delivered(
        "internationalised domain: verified",
        "bücher.net",
        DANE,
        "Verified",
        "mx.xn--bcher-kva.net:25",
        smtputf8=True,
        domains=[Domain("xn--bcher-kva.net", "ED25519", "nsec", [Host("mx", tlsa={25: "key"})])],
    ),
    delivered(
        "DANE beside a silent MTA-STS policy host: verified",
        "dane-and-sts.org",
        DANE,
        "Verified",
        "mx.dane-and-sts.org:25",
        domains=[
            Domain("dane-and-sts.org", "RSASHA256", "nsec", [Host("mx", tlsa={25: "key"})], silent_policy_host=True)
        ],
    ),
    # --- bogus zones
    deferred(
        "DS of another key: deferred",
        "bogus.com",
        r"TEMP bogus\.com: ",
        LOOKUP_FAILED,
        domains=[Domain("bogus.com", "ECDSAP256SHA256", "nsec", [Host("mx", tlsa={25: "key"})], fault="wrong-ds")],
    ),
    deferred(
        "signatures expired: deferred",
        "expired.net",
        r"TEMP expired\.net: .*expired",
        LOOKUP_FAILED,
        domains=[Domain("expired.net", "RSASHA256", "nsec3", [Host("mx")], fault="expired")],
    ),
    deferred(
        "signature over TLSA broken: deferred",
        "bad-tlsa.org",
        r"TEMP bad-tlsa\.org: ",
        TABLE_FAILED,
        domains=[
            Domain(
                "bad-tlsa.org", "ECDSAP256SHA256", "nsec", [Host("mx", tlsa={25: "key"})], fault="bad-tlsa-signature"
            )
        ],
    ),
    # --- MTA-STS
    delivered(
        "MTA-STS: verified",
        "sts.org",
        r"OK secure match=mx\.sts\.org servername=hostname$",
        "Verified",
        "mx.sts.org:25",
        domains=[Domain("sts.org", hosts=[Host("mx", "authority")], policy=enforce("mx.sts.org"))],
    ),
    delivered(
        "MTA-STS with a wildcard: verified",
        "sts-wild.com",
        r"OK secure match=\.sts-wild\.com servername=hostname$",
        "Verified",
        "mx.sts-wild.com:25",
        domains=[Domain("sts-wild.com", hosts=[Host("mx", "authority")], policy=enforce("*.sts-wild.com"))],
    ),
    deferred(
        "MTA-STS, certificate for another name: deferred",
        "sts-name.org",
        r"OK secure ",
        NOT_VERIFIED,
        domains=[Domain("sts-name.org", hosts=[Host("mx", "other-name")], policy=enforce("mx.sts-name.org"))],
    ),
    deferred(
        "MTA-STS, self-signed certificate: deferred",
        "sts-self.net",
        r"OK secure ",
        NOT_VERIFIED,
        domains=[Domain("sts-self.net", hosts=[Host("mx")], policy=enforce("mx.sts-self.net"))],
    ),
    deferred(
        "MTA-STS, MX host not in the policy: deferred",
        "sts-mx.com",
        r"OK secure ",
        NOT_VERIFIED,
        domains=[Domain("sts-mx.com", hosts=[Host("mx", "authority")], policy=enforce("other.sts-mx.com"))],
    ),
    delivered(
        "MTA-STS in testing mode: delivered as usual",
        "sts-testing.org",
        NOTHING,
        "Untrusted",
        "mx.sts-testing.org:25",
        domains=[
            Domain("sts-testing.org", hosts=[Host("mx")], policy=enforce("other.sts-testing.org", mode="testing"))
        ],
    ),
    # --- no policy
    delivered(
        "no policy: opportunistic TLS",
        "plain.org",
        NOTHING,
        "Untrusted",
        "mx.plain.org:25",
        domains=[Domain("plain.org", hosts=[Host("mx")])],
    ),
    delivered(
        "no policy, no STARTTLS: in the clear",
        "clear.com",
        NOTHING,
        None,
        "mx.clear.com:25",
        domains=[Domain("clear.com", hosts=[Host("mx", None)])],
    ),
    delivered(
        "signed, no TLSA: opportunistic TLS",
        "signed.com",
        NOTHING,
        "Untrusted",
        "mx.signed.com:25",
        domains=[Domain("signed.com", "ED25519", "nsec3", [Host("mx")])],
    ),
    # --- explicit next hops, overrides
    delivered(
        "[host]:port with TLSA at that port: verified",
        "routed.org",
        DANE,
        "Verified",
        "mx.hoster.net:587",
        next_hop="[mx.hoster.net]:587",
    ),
    deferred(
        "[host]:port with mismatching TLSA: deferred",
        "misrouted.org",
        DANE,
        NOT_VERIFIED,
        next_hop="[mx.relay.com]:587",
        domains=[Domain("relay.com", "RSASHA256", "nsec", [Host("mx", tlsa={587: "other-key"})])],
    ),
    delivered(
        "[address]: delivered as usual",
        "literal.org",
        NOTHING,
        None,
        "mx.literal.org:25",
        next_hop="[10.53.25.200]",
        domains=[Domain("literal.org", hosts=[Host("mx", None, address="10.53.25.200")])],
    ),
    deferred(
        "override encrypt, no STARTTLS: deferred",
        "forced.com",
        r"OK encrypt$",
        r"TLS is required",
        override="encrypt",
        domains=[Domain("forced.com", hosts=[Host("mx", None)])],
    ),
    deferred(
        "override dane-only, domain not signed: deferred",
        "strict.com",
        DANE,
        r"non DNSSEC destination",
        override="dane-only",
        domains=[Domain("strict.com", hosts=[Host("mx")])],
    ),
]

TLSRPT = (
    r"OK secure match=mx\.sts\.org servername=hostname"
    r" policy_type=sts policy_domain=sts\.org mx_host_pattern=mx\.sts\.org"
    r" \{ policy_string = version: STSv1 \} \{ policy_string = mode: enforce \}"
    r" \{ policy_string = mx: mx\.sts\.org \} \{ policy_string = max_age: 86400 \}$"
)

# More of what a table can be asked: (what, map, key, answer).
QUESTIONS = [
    ("TLSRPT attributes", "QUERYwithTLSRPT", "sts.org", TLSRPT),
    ("no TLSRPT attributes with DANE", "QUERYwithTLSRPT", "dane.com", DANE),
    ("the map name of postfix-mta-sts-resolver", "postfix", "dane.com", DANE),
    ("a map name in other case", "query", "dane.com", DANE),
    ("capitals and a trailing dot", "QUERY", "DANE.com.", DANE),
    ("an A-label", "QUERY", "xn--bcher-kva.net", DANE),
    ("a parent domain", "QUERY", ".dane.com", NOTHING),
    ("no policy from a sub-domain that is not there", "QUERY", "none.dane.com", NOTHING),
    ("another port", "QUERY", "hoster.net:587", DANE),
    ("a port without TLSA", "QUERY", "dane.com:2525", NOTHING),
    ("MTA-STS is not for explicit hosts", "QUERY", "[mx.sts.org]", NOTHING),
    ("an unknown map", "nowhere", "dane.com", r"PERM unknown map"),
]

# Commands of the operator, in this order, and what they must print.
COMMANDS = [
    ("query dane.com", r"answer +OK dane-only\n"),
    ("query --json sts.org", r'"answer": "OK secure match=mx\.sts\.org servername=hostname"'),
    ("query --direct dane.com", r"answer +OK dane-only\n"),
    ("dump", r"(?m)^ +\d+  dane\.com +dane-only \(.* dane-only$"),
    ("dump --held", r"(?m)^\d+ domains: 0 with a policy, \d+ held$"),
    ("export", r"(?m)^sts\.org +secure match=mx\.sts\.org servername=hostname$"),
    ("status", r"ready\n(?s:.*)trust anchor +\. "),
    ("healthcheck", r"^\n$"),
    ("purge sts.org", r"^1 purged$"),
    ("query sts.org", r"answer +OK secure match=mx\.sts\.org servername=hostname\n"),
]
