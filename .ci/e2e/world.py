"""The words in which a case describes its domain: zones, mail hosts, policies. Data only; others build it."""

import dataclasses
import itertools

_addresses = itertools.count(1)


@dataclasses.dataclass
class Host:
    """A mail host and its address; its name is relative to the domain that has it."""

    label: str
    # What it shows at STARTTLS: "authority" (signed by the lab's authority), "self" (self-signed), "other-name"
    # (signed, for another name), None (it does not offer STARTTLS).
    certificate: str | None = "self"
    # Port -> TLSA: "key" and "authority" fit the certificate, "other-key" does not, "unusable" is a PKIX-EE record.
    tlsa: dict = dataclasses.field(default_factory=dict)
    address: str = ""
    name: str = ""

    def __post_init__(self):
        self.address = self.address or f"10.53.25.{next(_addresses)}"


@dataclasses.dataclass
class Domain:
    """A zone, directly below one of the top-level zones."""

    name: str
    algorithm: str | None = None  # ldns-keygen's name of it; None: not signed
    denial: str = "nsec"  # or "nsec3"
    hosts: list = dataclasses.field(default_factory=list)
    mx: list | None = None  # (preference, host name); None: all hosts, 10 apart
    policy: str | None = None  # the text of the MTA-STS policy
    records: list = dataclasses.field(default_factory=list)  # more zone lines, relative to the zone
    # "wrong-ds", "expired", "bad-tlsa-signature"; "servfail", "silent" (its servers, not its signatures)
    fault: str | None = None
    silent_policy_host: bool = False

    def __post_init__(self):
        for host in self.hosts:
            host.name = f"{host.label}.{self.name}"
        if self.mx is None:
            self.mx = [(10 * (i + 1), host.name) for i, host in enumerate(self.hosts)]


def enforce(*patterns, mode="enforce"):
    """An MTA-STS policy for these mx patterns."""
    return "".join(
        f"{line}\r\n" for line in ("version: STSv1", f"mode: {mode}", *(f"mx: {p}" for p in patterns), "max_age: 86400")
    )
