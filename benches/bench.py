#!/usr/bin/env python3
"""Measures postseal, and any peer that runs already, in the same world and in turns; prints one table of medians.

Build first: cargo build --release -p postseal -p postseal-bench

usage: bench.py [--rounds N] [--domains N] [--seconds S] [--large]
                [--world DIRECTORY --peer NAME=SERVER,PID[,PID...][,map=NAME][,expect=REPLY]...]

A peer is a socketmap server that runs, with a resolver that finds its way in the world. So start the world first,

    postseal-bench world DIRECTORY --port 53 --domains 10000

(rounds times domains of them), then the peer's resolver with the hints and anchors in DIRECTORY, then the peer, then
this with --world DIRECTORY. In each round every server is asked for domains that nobody has asked it for. All replies
have to begin with "OK dane-only", or with what a peer says instead ("expect=NOTFOUND" where it knows no DANE). The column
"floor" is a server that answers without looking: what the kernel alone takes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "release"
ROUND_TRIP = 20
MEBIBYTE = 1 << 20


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class World:
    """Signed zones on addresses of loopback, and how often they were asked."""

    def __init__(self, directory, domains, delay=0):
        self.directory = pathlib.Path(directory)
        arguments = [RELEASE / "postseal-bench", "world", directory, "--domains", str(domains), "--delay", str(delay)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("port "):
            sys.exit("the world did not start")

    def asked(self):
        """Questions since the last call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        self.process.kill()
        self.process.wait()


class GivenWorld:
    """A world that somebody else started; how often it was asked only they can see."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()

    def asked(self):
        return None

    def end(self):
        pass


class Postseal:
    """One process of postseal with a state of its own, or a given one."""

    map, name, expect = "QUERY", "postseal", "OK dane-only"

    def __init__(self, binary, world, state=None):
        self.directory = tempfile.mkdtemp(prefix="postseal-bench-")
        port = free_port()
        self.server, self.unix = f"127.0.0.1:{port}", f"unix:{self.directory}/socket"
        listen = f'"{self.server}", "{self.unix}"'
        configuration = (world / "postseal.toml").read_text().replace('"127.0.0.1:0"', listen)
        for name in ("hints", "anchors"):
            configuration = configuration.replace(f'"{name}"', f'"{world / name}"')
        if state:
            configuration = configuration.replace('"state"', f'"{state}"')
        pathlib.Path(self.directory, "postseal.toml").write_text(configuration)
        started = time.perf_counter()
        command = [binary, "--config", "postseal.toml"]
        self.process = subprocess.Popen(command, cwd=self.directory, env={}, stderr=subprocess.DEVNULL)
        self.pids = [self.process.pid]
        while (reply := ask(port, "[192.0.2.1]")) is None:
            if self.process.poll() is not None:
                sys.exit("postseal did not start")
            time.sleep(0.0005)
        self.first_answer = time.perf_counter() - started
        assert reply == b"9:NOTFOUND ,", reply

    def end(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


class Floor:
    """A server that does nothing but answer: what the kernel alone takes, on this machine, in this run."""

    map, name, expect = "QUERY", "floor", "OK dane-only"

    def __init__(self):
        self.process = subprocess.Popen([RELEASE / "postseal-bench", "floor"], stdout=subprocess.PIPE, text=True)
        self.server, self.unix = self.process.stdout.readline().strip(), None
        self.pids = [self.process.pid]

    def end(self):
        self.process.kill()
        self.process.wait()


class Peer:
    """A server that somebody else started and ends."""

    def __init__(self, text):
        self.name, rest = text.split("=", 1)
        self.server, *others = rest.split(",")
        self.unix = None
        given = dict(other.split("=", 1) for other in others if "=" in other)
        self.map, self.expect = given.get("map", "QUERY"), given.get("expect", "OK dane-only")
        self.pids = [int(other) for other in others if other.isdigit()]

    def end(self):
        pass


def ask(port, key):
    """One lookup; None while nobody listens."""
    query = f"QUERY {key}".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"%d:%s," % (len(query), query))
            length = b""
            while not length.endswith(b":"):
                length += connection.recv(1) or sys.exit("the server hung up")
            rest = b""
            while len(rest) < int(length[:-1]) + 1:
                rest += connection.recv(4096)
            return length + rest
    except ConnectionRefusedError:
        return None


def load(server, *arguments, address=None):
    """One run of the load generator."""
    address = address or server.server
    command = [RELEASE / "postseal-bench", "load", "--json", "--server", address, "--map", server.map]
    for pid in server.pids:
        command += ["--pid", str(pid)]
    result = subprocess.run([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{server.name}: wrong replies, or none: {result.stdout}")
    return json.loads(result.stdout)


class Table:
    """Measured values by row and server; medians in the end."""

    def __init__(self):
        self.rows = {}

    def add(self, row, unit, server, value):
        self.rows.setdefault((row, unit), {}).setdefault(server, []).append(value)

    def print(self, servers):
        print(f"{'':44}" + "".join(f"{name:>22}" for name in servers))
        for (row, unit), values in self.rows.items():
            medians = {name: statistics.median(found) for name, found in values.items()}
            cells = []
            for name in servers:
                if name not in medians:
                    cells.append("–")
                    continue
                own = medians.get("postseal", 0)
                ratio = f" ({medians[name] / own:.2f}×)" if name != "postseal" and own else ""
                cells.append(f"{medians[name]:,.{0 if medians[name] >= 1000 else 2}f}{ratio}")
            print(f"{row + ', ' + unit:44}" + "".join(f"{cell:>22}" for cell in cells))


def warm(table, server, keys, seconds):
    keys = (*keys, "--expect", server.expect)
    for row, connections, pipeline, address in (
        ("warm, 1 connection", 1, 1, server.server),
        ("warm, 32 connections", 32, 1, server.server),
        ("warm, 1 connection, pipeline 64", 1, 64, server.server),
        ("warm, 1 connection, Unix socket", 1, 1, server.unix),
        ("warm, 32 connections, Unix socket", 32, 1, server.unix),
    ):
        if address is None:
            continue
        how = ("--connections", connections, "--pipeline", pipeline, "--duration", seconds)
        report = load(server, *keys, *how, address=address)
        table.add(row, "replies/s", server.name, report["per_second"])
        table.add(row, "p50 µs", server.name, report["latency"]["p50"])
        table.add(row, "p99 µs", server.name, report["latency"]["p99"])
        if server.pids:
            table.add(row, "CPU µs per reply", server.name, report["cpu_per_reply"])


def cold(table, world, server, keys, domains):
    world.asked()
    report = load(server, *keys, "--expect", server.expect, "--once", "--connections", 32)
    row = "cold DANE, 32 connections"
    table.add(row, "domains/s", server.name, report["per_second"])
    if (asked := world.asked()) is not None:
        table.add(row, "queries per domain", server.name, asked / domains)
    if server.pids:
        table.add(row, "CPU ms per domain", server.name, report["cpu_per_reply"] / 1000)
        table.add(f"memory after {domains:,} domains", "MiB", server.name, report["resident"] / MEBIBYTE)


def rounds(table, world, options, peers):
    """Everything on a world without delay, server after server, again and again."""
    per_round = options.domains
    with contextlib.closing(Closing(Postseal(options.binary, world.directory))) as first:
        # Makes the world's answers, which are not to be measured.
        load(first.server, "--names", "d{}.com", "--count", per_round * options.rounds, "--once", "--connections", 32)
    for number in range(options.rounds):
        keys = ("--names", "d{}.com", "--from", number * per_round, "--count", per_round)
        servers = [Postseal(options.binary, world.directory), Floor(), *peers]
        table.add("start to first answer", "ms", "postseal", servers[0].first_answer * 1000)
        time.sleep(0.5)
        table.add("memory at start", "MiB", "postseal", servers[0].resident() / MEBIBYTE)
        for server in servers[:: 1 if number % 2 else -1]:
            if server.name != "floor":
                cold(table, world, server, keys, per_round)
            warm(table, server, keys, options.seconds)
        for server in servers:
            server.end()


class Closing:
    """Lets a server be used in a with statement."""

    def __init__(self, server):
        self.server = server

    def close(self):
        self.server.end()


def round_trips(table, options):
    """What a domain takes where every answer is a round trip away."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(directory, 2, ROUND_TRIP)
        for _ in range(2 + options.rounds):
            server = Postseal(options.binary, world.directory)
            for row, key in (("cold DANE, nothing known", "d0.com"), ("cold DANE, TLD known", "d1.com")):
                world.asked()
                report = load(server, "--key", key, "--once")
                milliseconds = report["latency"]["p50"] / 1000
                table.add(f"{row}, {ROUND_TRIP} ms", "ms", "postseal", milliseconds)
                table.add(f"{row}, {ROUND_TRIP} ms", "rounds", "postseal", milliseconds // ROUND_TRIP)
                time.sleep(0.3)
                table.add(f"{row}, {ROUND_TRIP} ms", "queries", "postseal", world.asked())
            server.end()
        world.end()


def large(table, options, world):
    """A store of 100,000 next hops, and what 20,000 and 100,000 domains take in memory."""
    count = 100_000
    with tempfile.TemporaryDirectory() as state:
        subprocess.run([RELEASE / "postseal-bench", "fill", state, "--domains", str(count)], check=True)
        for _ in range(options.rounds):
            server = Postseal(options.binary, world.directory, state)
            table.add(f"start with {count:,} stored", "ms", "postseal", server.first_answer * 1000)
            keys = ("--names", "m{}.example", "--count", count, "--expect", "OK secure ")
            warm_report = load(server, *keys, "--duration", 1)
            table.add(f"memory with {count:,} read from disk", "MiB", "postseal", warm_report["resident"] / MEBIBYTE)
            server.end()
    with tempfile.TemporaryDirectory() as directory:
        wide = World(directory, count)
        server = Postseal(options.binary, wide.directory)
        asked = 0
        for until in (20_000, count):
            keys = ("--names", "d{}.com", "--from", asked, "--count", until - asked, "--expect", "OK dane-only")
            report = load(server, *keys, "--once", "--connections", 32)
            table.add(f"memory after {until:,} domains", "MiB", "postseal", report["resident"] / MEBIBYTE)
            asked = until
        server.end()
        wide.end()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--binary", default=RELEASE / "postseal", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--domains", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--world", type=GivenWorld)
    parser.add_argument("--peer", action="append", default=[], type=Peer)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    table = Table()
    with tempfile.TemporaryDirectory() as directory:
        world = options.world or World(directory, options.domains * options.rounds)
        rounds(table, world, options, options.peer)
        if options.large:
            large(table, options, world)
        world.end()
    round_trips(table, options)
    table.print(["postseal", "floor", *(peer.name for peer in options.peer)])


if __name__ == "__main__":
    main()
