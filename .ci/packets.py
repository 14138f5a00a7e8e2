#!/usr/bin/env python3
"""Malformed, random and mutated packets against the DNS listener of the real binary: it goes on, and does not grow.

usage: packets.py BINARY [--count 200000] [--seed 1]

Nine tenths go over UDP, the rest over TCP. After every few hundred a good query must be answered, so that no packet is
lost in a full buffer and an end of the process is noticed at once. Memory is compared after the first tenth, when all
caches and buffers are there, and at the end. Needs neither root nor a network.
"""

import argparse
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time

CONFIG = """\
state-dir = "{directory}/state"
[socketmap]
listen = ["unix:{directory}/map.sock"]
[http]
listen = []
[dns]
listen = ["127.0.0.1:{port}"]
[resolver]
root-hints = "{directory}/hints"
allow-private-servers = true
upstream-port = 9
ipv6 = false
"""
HINTS = ". 3600 IN NS ns.root.\nns.root. 3600 IN A 127.0.0.1\n"
WINDOW = 200  # packets between two good queries; the receive buffer holds several times as many
GROWTH = 8 << 20  # octets that memory may differ by: the allocator's own habits
NAMES = [b"localhost", b"example.com", b"_25._tcp.mx.example.org", b"1.0.0.127.in-addr.arpa", b"x.invalid", b""]
TYPES = [1, 2, 6, 12, 15, 28, 33, 43, 46, 48, 52, 65, 250, 251, 252, 255, 0, 65535]


def query(name, rtype, identity, flags=0x0100, edns=True):
    """A well-formed query."""
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".") if label) + b"\0"
    opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0" if edns else b""
    return struct.pack(">HHHHHH", identity, flags, 1, 0, 0, edns) + labels + struct.pack(">HH", rtype, 1) + opt


class Packets:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pool = [self._make(i) for i in range(20_000)]

    def _make(self, index):
        dice = self.random
        if index % 10 == 0:
            return dice.randbytes(dice.choice((0, 1, 11, 12, 13, 60, 512, 1500, 5000)))
        octets = bytearray(query(dice.choice(NAMES), dice.choice(TYPES), dice.randrange(65536), edns=index % 3 > 0))
        for _ in range(index % 6):
            self._mutate(octets)
        return bytes(octets)

    def _mutate(self, octets):
        dice = self.random
        at = dice.randrange(len(octets) or 1)
        kind = dice.randrange(5)
        if kind == 0 and octets:
            octets[at % len(octets)] = dice.choice((0, 1, 0x3F, 0x40, 0x80, 0xC0, 0xFF, dice.randrange(256)))
        elif kind == 1:
            del octets[at:]
        elif kind == 2:
            octets[at:at] = dice.randbytes(dice.randrange(20))
        elif kind == 3:
            octets += octets[at : at + 40]
        else:
            octets[at : at + 2] = b"\xc0" + bytes([at % 256])

    def __iter__(self):
        dice = self.random
        while True:
            octets = bytearray(self.pool[int(dice.random() * len(self.pool))])
            if octets:
                octets[int(dice.random() * len(octets))] = int(dice.random() * 256)
            yield octets


class Daemon:
    """The binary, and its memory."""

    def __init__(self, binary, directory):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        for name, text in (("postseal.toml", CONFIG), ("hints", HINTS)):
            with open(os.path.join(directory, name), "w", encoding="ascii") as file:
                file.write(text.format(directory=directory, port=self.port))
        command = [binary, "--config", os.path.join(directory, "postseal.toml")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", self.port))
        for _ in range(200):
            if self.is_alive(0.1):
                return
            time.sleep(0.05)
        sys.exit("it does not start")

    def is_alive(self, patience=30):
        """Whether a good query is answered; what else arrives is passed over."""
        asked = query(b"localhost", 1, 0xABCD)
        end = time.monotonic() + patience
        try:
            self.socket.send(asked)
            while True:
                self.socket.settimeout(max(end - time.monotonic(), 0.001))
                answer = self.socket.recv(65536)
                if answer[:2] == asked[:2] and answer[12 : len(asked) - 11] == asked[12:-11]:
                    return True
        except OSError:
            return False

    def memory(self):
        """Octets of resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send_datagrams(daemon, packets, count):
    """Sends `count` datagrams; the number sent before the daemon fell silent, if it did."""
    for sent, octets in zip(range(count), packets):
        try:
            daemon.socket.send(octets)
        except OSError:
            pass  # a datagram that is too large, or the news that nobody listens, which the next good query tells
        if sent % WINDOW == 0 and not daemon.is_alive():
            return sent
    return count


def send_streams(daemon, packets, count):
    """The same over connections: framed, with wrong lengths, cut off."""
    sent = 0
    while sent < count:
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
            messages = [next(packets) for _ in range(50)]
            lengths = [len(octets) if i < 45 else i * 251 for i, octets in enumerate(messages)]
            data = b"".join(struct.pack(">H", length) + octets for length, octets in zip(lengths, messages))
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass  # it may close a connection that makes no sense
        sent += len(messages)
        if not daemon.is_alive():
            break
    return sent


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("binary")
    arguments.add_argument("--count", type=int, default=200_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    packets = iter(Packets(options.seed))
    with tempfile.TemporaryDirectory(prefix="postseal-packets-") as directory:
        daemon = Daemon(options.binary, directory)
        first, begun = options.count // 10, time.monotonic()
        sent = send_datagrams(daemon, packets, first)
        before = daemon.memory()
        sent += send_datagrams(daemon, packets, options.count - 2 * first)
        sent += send_streams(daemon, packets, first)
        alive = daemon.is_alive() and daemon.process.poll() is None
        after = daemon.memory() if alive else 0
        daemon.process.terminate()
        code = daemon.process.wait(20)
    seconds = time.monotonic() - begun
    verdicts = [
        (f"{sent:,} packets in {seconds:.0f} s, and it answers", alive and sent >= options.count),
        (f"memory {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB", alive and after - before < GROWTH),
        ("it ends with 0 when asked to", code == 0),
    ]
    for text, good in verdicts:
        print("ok  " if good else "FAIL", text)
    sys.exit(not all(good for _, good in verdicts))


if __name__ == "__main__":
    main()
