#!/usr/bin/env python3
"""Writes the scenarios of roll-overs (data/rfc5011_*.rpl, data/key_rollover.rpl): a root with new keys, really signed.

usage: make_rfc5011.py DIRECTORY

Needs dnspython and cryptography. Keys are made from their names, so the files come out the same each time.
"""

import base64
import hashlib
import os
import sys

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

START = 1_700_000_000
DAY = 86_400
TTL = 172_800  # of the keys: half of it, a day, is the refresh interval
LIFE = 400 * DAY  # of signatures, unless a phase says otherwise
ROOT = dns.name.root
SERVER = "198.41.0.4"


class Key:
    """A key-signing key, and the same key revoked."""

    def __init__(self, name):
        self.private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.plain, self.revoked = self._dnskey(257), self._dnskey(257 | 128)
        self.tag = dns.dnssec.key_id(self.plain)

    def _dnskey(self, flags):
        return dns.dnssec.make_dnskey(self.private.public_key(), dns.dnssectypes.Algorithm.ED25519, flags=flags)


K = {name: Key(name) for name in "ABCD"}


def dnskey(name):
    """`A` is the key, `A*` the key revoked."""
    return K[name[0]].revoked if name.endswith("*") else K[name[0]].plain


def signed(owner, rtype, ttl, texts, signers, life):
    """An RRset and its signatures, as lines."""
    rdatas = [t if not isinstance(t, str) else dns.rdata.from_text("IN", rtype, t) for t in texts]
    rrset = dns.rrset.from_rdata_list(dns.name.from_text(owner), ttl, rdatas)
    inception, expiration = START - DAY, START + life
    lines = rrset.to_text().splitlines()
    for signer in signers:
        key = K[signer[0]].private
        rrsig = dns.dnssec.sign(rrset, key, ROOT, dnskey(signer), inception=inception, expiration=expiration)
        lines.append(f"{owner} {ttl} IN RRSIG {rrsig.to_text()}")
    return lines


def entry(question, lines):
    """One answer of the server."""
    body = "\n".join(lines)
    return (
        "ENTRY_BEGIN\nMATCH opcode qtype qname\nADJUST copy_id\nREPLY QR AA NOERROR\n"
        f"SECTION QUESTION\n{question}\nSECTION ANSWER\n{body}\nENTRY_END\n"
    )


def phase(first, last, published, signers, data_signer, ttl=TTL, life=LIFE):
    """What the root says during some steps: its keys, who signs them, and who signs the rest."""
    keys = signed(".", "DNSKEY", ttl, [dnskey(name) for name in published], signers, life)
    host = signed("probe.", "A", 60, ["192.0.2.7"], [data_signer], LIFE)
    servers = signed(".", "NS", 518_400, ["a.root-servers.net."], [data_signer], LIFE)
    answers = [entry(". IN DNSKEY", keys), entry("probe. IN A", host), entry(". IN NS", servers)]
    return f"RANGE_BEGIN {first} {last}\n\tADDRESS {SERVER}\n" + "\n".join(answers) + "RANGE_END\n"


def silence(first, last):
    """The root's servers give nothing of use."""
    refused = "ENTRY_BEGIN\nMATCH opcode\nADJUST copy_id copy_query\nREPLY QR REFUSED\nSECTION QUESTION\n. IN NS\nENTRY_END\n"
    return f"RANGE_BEGIN {first} {last}\n\tADDRESS {SERVER}\n{refused}RANGE_END\n"


class Scenario:
    """Steps in order; each has a number that phases refer to."""

    def __init__(self, title, anchors, phases, follow=True):
        self.lines, self.number = [], 0
        settings = [f'trust-anchor: "{anchor}"' for anchor in anchors]
        head = [f"; {title}", *settings, f'val-override-timestamp: "{START}"', f"stub-addr: {SERVER}"]
        self.head = [*head, "query-minimization: off", "do-ip6: no", f"follow-anchors: {'yes' if follow else 'no'}", "CONFIG_END", ""]
        self.head += [f"SCENARIO_BEGIN {title}", "", *phases]

    def at(self, number):
        self.number = number
        return self

    def _step(self, text):
        self.lines.append(f"STEP {self.number} {text}")
        return self

    def after(self, days=0, hours=0):
        return self._step(f"TIME_PASSES ELAPSE {int(days * DAY + hours * 3600)}")

    def restart(self):
        return self._step("RESTART")

    def logs(self, text):
        return self._step(f"CHECK_LOG {text}")

    def anchors(self, next_look=None, **states):
        words = [f"{K[name].tag}={state.replace('_', '-')}" for name, state in states.items()]
        words += [f"next={next_look}"] if next_look is not None else []
        return self._step("CHECK_ANCHORS " + " ".join(words))

    def _probe(self, flags, answer):
        question = "SECTION QUESTION\nprobe. IN A\n"
        self._step(f"QUERY\nENTRY_BEGIN\nREPLY RD DO\n{question}ENTRY_END")
        return self._step(f"CHECK_ANSWER\nENTRY_BEGIN\nMATCH flags rcode answer\nREPLY {flags}\n{question}{answer}ENTRY_END")

    def trusted(self):
        """What the present keys sign is secure."""
        return self._probe("QR RD RA AD NOERROR", "SECTION ANSWER\nprobe. 60 IN A 192.0.2.7\n")

    def bogus(self):
        return self._probe("QR RD RA SERVFAIL", "")

    def text(self):
        return "\n".join([*self.head, *self.lines, "SCENARIO_END", ""])


def anchor(name):
    return f". 3600 IN DNSKEY {K[name].plain.to_text()}"


def ds(name):
    return f". 3600 IN DS {dns.dnssec.make_ds(ROOT, K[name].plain, 'SHA256').to_text()}"


def scenarios():
    """(file name, scenario)."""
    settle = {"hours": 0.5}
    # §2.4.1, §4.2: Start, AddPend, Valid; the timer alone is not enough; §6.3: both keys sign for a while.
    yield "add_hold_down", (
        Scenario(
            "RFC 5011 §2.4.1: a new key is an anchor after 30 days, and not before",
            [anchor("A")],
            [phase(0, 9, "A", "A", "A"), phase(10, 39, "AB", "A", "A"), phase(40, 99, "AB", "AB", "B")],
        )
        .at(1).after(**settle).anchors(A="valid", next_look=DAY - 1800)
        .at(10).after(days=1).anchors(A="valid", B="add_pending").trusted()
        .after(days=29).anchors(A="valid", B="add_pending")
        .restart().after(hours=1).anchors(A="valid", B="add_pending")
        .after(days=2).anchors(A="valid", B="valid").trusted()
        .at(40).after(days=3).trusted()
    )
    # §2.2: a key that disappears while it waits.
    yield "hold_down_interrupted", (
        Scenario(
            "RFC 5011 §2.4.1: a key that disappears while it waits begins anew",
            [anchor("A")],
            [phase(0, 9, "AB", "A", "A"), phase(10, 19, "A", "A", "A"), phase(20, 99, "AB", "A", "A")],
        )
        .at(1).after(days=25).anchors(A="valid", B="add_pending")
        .at(10).after(days=2).anchors(A="valid")
        .at(20).after(days=2).anchors(A="valid", B="add_pending")
        .after(days=27).anchors(A="valid", B="add_pending")
        .after(days=3).anchors(A="valid", B="valid").trusted()
    )
    # §2.1, §2.4.2, §4.2: Revoked, Removed, and never back.
    yield "revocation", (
        Scenario(
            "RFC 5011 §2.1: a revoked key is no anchor at once, is removed after 30 days, and does not come back",
            [anchor("A"), anchor("B")],
            [
                phase(0, 9, "AB", "A", "A"),
                phase(10, 19, ["A*", "B"], ["A*", "B"], "B"),
                phase(20, 29, "B", "B", "B"),
                phase(30, 99, "AB", "AB", "A"),
            ],
        )
        .at(1).after(**settle).anchors(A="valid", B="valid").trusted()
        .at(10).after(days=1).anchors(A="revoked", B="valid").trusted()
        .after(days=28).anchors(A="revoked", B="valid").restart().after(hours=1).anchors(A="revoked", B="valid")
        .at(20).after(days=3).anchors(A="removed", B="valid").trusted()
        .at(30).after(days=40).anchors(A="removed", B="valid")
    )
    # §4.2: Missing and back; §2.3: the interval follows TTL and signature life.
    yield "missing", (
        Scenario(
            "RFC 5011 §4.2: an anchor that is missing stays one, and is valid again when it is back",
            [anchor("A"), anchor("B")],
            [
                phase(0, 9, "AB", "A", "A"),
                phase(10, 19, "A", "A", "A"),
                phase(20, 29, "AB", "B", "B", ttl=7_200),
                phase(30, 99, "AB", "A", "A", ttl=60 * DAY, life=1000 * DAY),
            ],
        )
        .at(1).after(**settle).anchors(A="valid", B="valid")
        .at(10).after(days=1).anchors(A="valid", B="missing").after(days=60).anchors(A="valid", B="missing").trusted()
        .at(20).after(days=1).anchors(A="valid", B="valid").trusted()
        .at(30).after(hours=1).anchors(A="valid", B="valid", next_look=15 * DAY - 1800)
    )
    # §2.3: retries. A key set that no anchor signs changes nothing.
    yield "retry", (
        Scenario(
            "RFC 5011 §2.3: what cannot be had, or is not signed by an anchor, is looked at again and changes nothing",
            [anchor("A")],
            [
                phase(0, 9, "A", "A", "A"),
                silence(10, 19),
                phase(20, 29, "AB", "B", "B"),
                phase(30, 99, "AB", "A", "A"),
            ],
        )
        .at(1).after(**settle).anchors(A="valid", next_look=DAY - 1800)
        .at(10).after(days=1).anchors(A="valid").after(hours=0.5)
        .at(20).after(days=2).anchors(A="valid").bogus()
        .at(30).after(days=1).anchors(A="valid", B="add_pending").trusted()
    )
    # §6.3, §6.6: a standby key takes over from one that is compromised.
    yield "standby", (
        Scenario(
            "RFC 5011 §6.6: the standby key takes over on the day that the active one is revoked",
            [anchor("A")],
            [
                phase(0, 9, "AB", "A", "A"),
                phase(10, 19, ["A*", "B", "C"], ["A*", "B"], "B"),
                phase(20, 29, "BC", "B", "B"),
                phase(30, 99, ["B*", "C", "D"], ["B*", "C"], "C"),
            ],
        )
        .at(1).after(days=32).anchors(A="valid", B="valid")
        .at(10).after(days=1).anchors(A="revoked", B="valid", C="add_pending").trusted()
        .at(20).after(days=33).anchors(A="removed", B="valid", C="valid").trusted()
        .at(30).after(days=1).anchors(A="removed", B="revoked", C="valid", D="add_pending").trusted()
    )
    # §5: all revoked.
    yield "all_revoked", (
        Scenario(
            "RFC 5011 §5: with every anchor revoked nothing validates any more, whatever new keys say",
            [anchor("A"), anchor("B")],
            [phase(0, 9, "AB", "AB", "A"), phase(10, 19, ["A*", "B*", "C"], ["A*", "B*", "C"], "C"), phase(20, 99, "C", "C", "C")],
        )
        .at(1).after(**settle).trusted()
        .at(10).after(days=1).anchors(A="revoked", B="revoked").bogus()
        .logs("every key is revoked or of no known algorithm, so nothing below this zone validates; set resolver.trust-anchors")
        .at(20).after(days=40).bogus().restart().after(hours=1).bogus()
    )
    # A build that is years old.
    yield "old_build", (
        Scenario(
            "an old build starts where one of its anchors still signs, in DS form, too",
            [anchor("A"), ds("B")],
            [phase(0, 9, "BC", "B", "B"), phase(10, 99, "BC", "B", "B")],
        )
        .at(1).after(**settle).anchors(A="missing", B="valid", C="add_pending").trusted()
        .at(10).after(days=32).anchors(A="missing", B="valid", C="valid").trusted()
    )
    yield "too_old_build", (
        Scenario(
            "a build whose anchors sign no more trusts nothing",
            [anchor("A")],
            [phase(0, 99, "C", "C", "C")],
        )
        .at(1).after(**settle).anchors(A="valid").bogus()
        .logs("no trusted key signs the zone's present keys; if this stays so, set resolver.trust-anchors")
        .after(days=60).anchors(A="valid").bogus()
    )


def key_rollover():
    """A zone that signs with a key newer than those known here, an expired signature by the old one beside it."""
    old, new = phase(0, 9, "AB", "A", "B"), phase(10, 99, "AC", "A", "C")
    expired = signed("probe.", "A", 60, ["192.0.2.7"], "B", -3600)[1]
    new = new.replace("SECTION ANSWER\nprobe.", f"SECTION ANSWER\n{expired}\nprobe.")
    title = "an expired signature does not hide the one by a new key"
    return Scenario(title, [anchor("A")], [old, new], follow=False).at(1).trusted().at(10).after(hours=1).trusted()


def main():
    directory = sys.argv[1]
    files = [(f"rfc5011_{name}", scenario) for name, scenario in scenarios()]
    for name, scenario in [*files, ("key_rollover", key_rollover())]:
        with open(os.path.join(directory, f"{name}.rpl"), "w", encoding="ascii") as file:
            file.write(scenario.text().replace("§", "section "))


if __name__ == "__main__":
    main()
