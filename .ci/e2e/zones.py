"""Zone files, their signatures (ldns-signzone), and the name servers (NSD) for root, top-level domains and domains."""

import os
import socket
import time

import policy_host

ROOT, TOP, DOMAINS, DOMAINS_TOO = "10.53.0.1", "10.53.0.2", "10.53.0.3", "10.53.0.4"
SERVFAIL, SILENT = "10.53.0.5", "10.53.0.6"
HOSTER = "hoster.net"
NAME_OF_ROOT = "a.root-servers.net."
ALGORITHM_OF_TOP = {
    "com": ("RSASHA256", "nsec3-optout"),
    "net": ("ECDSAP256SHA256", "nsec"),
    "org": ("ED25519", "nsec3"),
}


class Zones:
    """Builds and serves the whole tree above and at the given `world.Domain`s."""

    def __init__(self, lab, authority, domains):
        self.lab, self.authority, self.domains = lab, authority, domains
        self.hosts = {host.name: host for domain in domains for host in domain.hosts}
        self.files = {}  # zone -> signed (or unsigned) zone file
        self.keys = {}  # zone -> path of its DNSKEY file

    def build(self):
        """Writes and signs all zones, from the leaves up, as each parent needs its children's DS."""
        delegations = {top: [] for top in ALGORITHM_OF_TOP}
        for domain in self.domains:
            ds = self._build_zone(domain.name, self._lines(domain), domain.algorithm, domain.denial, domain.fault)
            delegations[domain.name.rpartition(".")[2]] += self._delegation(domain) + ds
        delegations["net"] += ["root-servers NS a.root-servers", f"a.root-servers A {ROOT}"]
        delegations["net"] += ["gtld-servers NS a.gtld-servers", f"a.gtld-servers A {TOP}"]
        root = [f"@ NS {NAME_OF_ROOT}"]
        for top, (algorithm, denial) in ALGORITHM_OF_TOP.items():
            ds = self._build_zone(top, ["@ NS a.gtld-servers.net.", *delegations[top]], algorithm, denial)
            root += [f"{top} NS a.gtld-servers.net.", *ds]
        root.append(f"a.gtld-servers.net. A {TOP}")
        self._build_zone(".", root, "RSASHA256", "nsec")
        self._build_zone("root-servers.net", ["@ NS a", f"a A {ROOT}"], None)
        self._build_zone("gtld-servers.net", ["@ NS a", f"a A {TOP}"], None)
        self.hints = self.lab.write(
            "root.hints", f". 3600000 IN NS {NAME_OF_ROOT}\n{NAME_OF_ROOT} 3600000 IN A {ROOT}\n"
        )
        self.anchor = self.keys["."]

    def serve(self):
        """Starts the servers; returns when each answers."""
        leaves = {d.name: self.files[d.name] for d in self.domains}
        broken = {d.name: self.lab.path("zones/missing") for d in self.domains if d.fault == "servfail"}
        self._start_nsd("root", [ROOT], {z: self.files[z] for z in (".", "root-servers.net")})
        self._start_nsd("top", [TOP], {z: self.files[z] for z in (*ALGORITHM_OF_TOP, "gtld-servers.net")})
        self._start_nsd("domains", [DOMAINS, DOMAINS_TOO], leaves)
        self._start_nsd("servfail", [SERVFAIL], broken)
        self._silence = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        for silent in self._silence:
            silent.bind((SILENT, 53))
        self._silence[1].listen()

    # --- contents

    def _lines(self, domain):
        """The zone's own records, without SOA."""
        lines = [f"@ NS {name}" for name, _ in self._servers(domain)]
        lines += [f"{name} A {address}" for name, address in self._servers(domain) if name.endswith(f".{domain.name}.")]
        lines += [f"@ MX {preference} {name}." for preference, name in domain.mx]
        for host in domain.hosts:
            lines.append(f"{host.label} A {host.address}")
            lines += [
                f"_{port}._tcp.{host.label} TLSA {self.authority.tlsa(kind, host.name)}"
                for port, kind in host.tlsa.items()
            ]
        if domain.policy or domain.silent_policy_host:
            address = policy_host.SILENT_ADDRESS if domain.silent_policy_host else policy_host.ADDRESS
            lines += ['_mta-sts TXT "v=STSv1; id=20260101T000000;"', f"mta-sts A {address}"]
        return lines + domain.records

    def _servers(self, domain):
        """Names and addresses of a domain's name servers: its own, or for unsigned ones those of a hoster."""
        if domain.fault in ("servfail", "silent"):
            return [(f"ns1.{domain.name}.", SERVFAIL if domain.fault == "servfail" else SILENT)]
        owner = domain.name if domain.algorithm or domain.name == HOSTER else HOSTER
        return [(f"ns1.{owner}.", DOMAINS), (f"ns2.{owner}.", DOMAINS_TOO)]

    def _delegation(self, domain):
        servers = self._servers(domain)
        glue = [f"{name} A {address}" for name, address in servers if name.endswith(f".{domain.name}.")]
        return [f"{domain.name}. NS {name}" for name, _ in servers] + glue

    # --- signing

    def _build_zone(self, name, lines, algorithm, denial="nsec", fault=None):
        """Writes a zone, signs it when it has an algorithm, and returns the DS lines for its parent."""
        label = "root" if name == "." else name
        origin = "." if name == "." else name + "."
        server = "ns1." + HOSTER + "."
        head = [
            f"$ORIGIN {origin}",
            "$TTL 300",
            f"@ SOA {server} hostmaster.{HOSTER}. {int(time.time())} 3600 600 86400 60",
        ]
        self.files[name] = plain = self.lab.write(f"zones/{label}", "\n".join(head + lines) + "\n")
        if not algorithm:
            return []
        key = self._key(origin, algorithm)
        options = {"nsec": [], "nsec3": ["-n", "-t", "0"], "nsec3-optout": ["-n", "-p", "-t", "0"]}[denial]
        if fault == "expired":
            options = [*options, *self._days_ago(40, "-i"), *self._days_ago(10, "-e")]
        self.files[name] = signed = plain + ".signed"
        self.lab.run("ldns-signzone", *options, "-f", signed, plain, key, cwd=os.path.dirname(plain))
        if fault == "bad-tlsa-signature":
            self._damage(signed, "TLSA")
        if fault == "wrong-ds":
            key = self._key(origin, algorithm)
        self.keys[name] = key + ".key"
        with open(key + ".ds", encoding="ascii") as file:
            return file.read().splitlines()

    def _key(self, origin, algorithm):
        """One key that signs everything; returns the path that its files begin with."""
        size = ["-b", "2048"] if algorithm.startswith("RSA") else []
        directory = os.path.dirname(self.lab.path("zones/keys/x"))
        return os.path.join(
            directory,
            self.lab.run(
                "ldns-keygen", "-r", "/dev/urandom", "-a", algorithm, *size, "-k", origin, cwd=directory
            ).strip(),
        )

    @staticmethod
    def _days_ago(days, option):
        return [option, time.strftime("%Y%m%d", time.gmtime(time.time() - days * 86400))]

    @staticmethod
    def _damage(path, covered):
        """Flips the first characters of each signature over this type."""
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
        for i, line in enumerate(lines):
            if f"\tRRSIG\t{covered} " in line:
                head, signature = line.rsplit(" ", 1)
                lines[i] = head + " " + ("BBBB" if signature.startswith("AAAA") else "AAAA") + signature[4:]
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")

    # --- serving

    def _start_nsd(self, name, addresses, zones):
        listen = "".join(f"  ip-address: {address}\n" for address in addresses)
        served = "".join(f'zone:\n  name: "{zone}"\n  zonefile: "{path}"\n' for zone, path in zones.items())
        state = os.path.dirname(self.lab.path(f"nsd-{name}/x"))
        config = self.lab.write(
            f"nsd-{name}.conf",
            f'server:\n{listen}  server-count: 1\n  rrl-ratelimit: 0\n  username: ""\n  chroot: ""\n  zonesdir: ""\n'
            f'  database: ""\n  pidfile: "{state}/pid"\n  zonelistfile: "{state}/zones"\n  xfrdfile: "{state}/xfrd"\n'
            f"remote-control:\n  control-enable: no\n{served}",
        )
        self.lab.start(f"nsd-{name}", "nsd", "-d", "-c", config)
