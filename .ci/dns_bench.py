#!/usr/bin/env python3
"""How fast the DNS listener answers what its cache holds, beside Unbound on the same zones, in one run.

usage: dns_bench.py --binary target/release/postseal [--seconds 5] [--rounds 5] [--record FILE]

Signed zones, served by NSD in namespaces of the test's own; dnsperf asks both resolvers the questions of a Postfix
that delivers by DANE (MX, A, AAAA, TLSA, with DO), over UDP and over TCP. Contestants take turns, so that what else
the machine does meets all of them. What is compared is answers for each second of the server's processor time, which
does not depend on what dnsperf leaves of the machine; the table has the median of the rounds.

Unbound may keep 100 TCP connections for each thread, which is more than dnsperf opens.

Needs root, and Debian's unbound, dnsperf, nsd, ldnsutils, openssl.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "e2e"))

import certificates
import daemon
import lab as labs
import resolver
import zones
from world import Domain, Host

DOMAINS = 50
ADDRESSES = {"postseal": "127.0.0.1", "unbound, 1 thread": "127.0.0.2", "unbound, 2 threads": "127.0.0.3"}
TRANSPORTS = {"udp": ["-c", "20", "-q", "200"], "tcp": ["-c", "20", "-q", "200"]}
# RFC 4035: the signatures are made for real; which algorithm signed makes no difference to a warm cache.
ALGORITHMS = ["RSASHA256", "ECDSAP256SHA256", "ED25519"]


def world():
    """Signed domains with two mail hosts each."""
    tops = list(zones.ALGORITHM_OF_TOP)
    for i in range(DOMAINS):
        hosts = [Host("mx1", tlsa={25: "key"}), Host("mx2", tlsa={25: "key"})]
        yield Domain(f"bench{i}.{tops[i % 3]}", ALGORITHMS[i % 3], "nsec", hosts)


def questions(domains):
    """One line for each question, as dnsperf reads them."""
    for domain in domains:
        yield f"{domain.name} MX"
        for host in domain.hosts:
            yield from (f"{host.name} A", f"{host.name} AAAA", f"_25._tcp.{host.name} TLSA")


def processor_seconds(pid):
    """User and system time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Contest:
    """The lab, both resolvers, and the turns they take."""

    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        domains = list(world())
        authority = certificates.Authority(lab)
        for host in (host for domain in domains for host in domain.hosts):
            authority.issue(host.name, [host.name])
        self.zones = zones.Zones(lab, authority, domains)
        self.zones.build()
        self.zones.serve()
        self.daemon = daemon.Daemon(lab, options.binary, self.zones, authority, {}, True)
        self.daemon.start()
        for name, address in list(ADDRESSES.items())[1:]:
            threads = int(re.search(r"\d", name).group())
            resolver.start_unbound(lab, self.zones, address, validate=True, threads=threads)
        self.data = lab.write("questions", "\n".join(questions(domains)) + "\n")
        self.pids = {"postseal": lab.processes["postseal"].pid}
        self.pids |= {name: lab.processes[f"unbound-{ADDRESSES[name]}"].pid for name in list(ADDRESSES)[1:]}

    def ask(self, name, transport, *words):
        """One run of dnsperf: answers, the rate on the wall clock, and the codes it saw."""
        command = ["dnsperf", "-s", ADDRESSES[name], "-m", transport, "-d", self.data, "-D", *words]
        printed = self.lab.run(*command)
        number = lambda label: float(re.search(label + r":\s+([\d.]+)", printed).group(1))
        codes = re.search(r"Response codes:\s+(.*)", printed)
        return number("Queries completed"), number("Queries per second"), codes.group(1) if codes else "none"

    def warm(self):
        """Asks everything twice: the second time all must come from the cache, and with success."""
        for name in ADDRESSES:
            for _ in range(2):
                codes = self.ask(name, "udp", "-n", "1", "-q", "20", "-t", "20")[2]
            if not codes.startswith("NOERROR") or "," in codes:
                raise labs.LabError(f"{name} does not answer everything: {codes}")

    def run(self):
        """{(transport, name): [(answers for each second of processor time, answers for each second)]}."""
        results = {}
        for _ in range(self.options.rounds):
            for transport, words in TRANSPORTS.items():
                for name in ADDRESSES:
                    before = processor_seconds(self.pids[name])
                    answers, rate, _ = self.ask(name, transport, *words, "-l", str(self.options.seconds))
                    used = processor_seconds(self.pids[name]) - before
                    results.setdefault((transport, name), []).append((answers / used, rate))
        return results


def table(results):
    """Medians, and the ratio to each Unbound: of the medians and the span over the rounds."""
    yield f"{'':4} {'':20} {'answers/CPU s':>14} {'answers/s':>11} {'postseal is':>12}   (rounds)"
    for (transport, name), rounds in results.items():
        own = results[(transport, "postseal")]
        per_cpu, rate = (statistics.median(values) for values in zip(*rounds))
        ratios = [mine[0] / other[0] for mine, other in zip(own, rounds)]
        compared = f"{statistics.median(ratios):>11.2f}x   ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"{transport:4} {name:20} {per_cpu:>14,.0f} {rate:>11,.0f} {compared if name != 'postseal' else ''}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--record", help="runs perf on postseal for a while over UDP instead, into this file")
    options = arguments.parse_args()
    labs.enter()
    try:
        contest = Contest(labs.Lab(), options)
        contest.warm()
        if options.record:
            pid = str(contest.pids["postseal"])
            perf = subprocess.Popen(["perf", "record", "-q", "-g", "-p", pid, "-o", options.record])
            print(contest.ask("postseal", "udp", *TRANSPORTS["udp"], "-l", str(options.seconds)))
            perf.send_signal(2)
            perf.wait()
            return
        print(*table(contest.run()), sep="\n")
    except labs.LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
