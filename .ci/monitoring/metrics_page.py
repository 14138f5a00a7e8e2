#!/usr/bin/env python3
"""The metrics page of a running postseal, as `promtool check metrics` judges it: help, types, units, names.

usage: metrics_page.py BINARY
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def ask(port, query):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"%d:%s," % (len(query), query))
        return connection.recv(1000)


def read_page(binary):
    """Starts a daemon that can reach nobody, asks it a little, and reads its page."""
    with tempfile.TemporaryDirectory(prefix="postseal-metrics-") as directory:
        hints = os.path.join(directory, "hints")
        with open(hints, "w", encoding="ascii") as file:
            file.write(". 3600 IN NS ns.root.\nns.root. 3600 IN A 127.0.0.1\n")
        port, http_port = free_port(), free_port()
        environment = {
            "STATE_DIRECTORY": os.path.join(directory, "state"),
            "POSTSEAL_SOCKETMAP__LISTEN": f'["127.0.0.1:{port}"]',
            "POSTSEAL_HTTP__LISTEN": f'["127.0.0.1:{http_port}"]',
            "POSTSEAL_HTTP__TLSPOL_METRIC_NAMES": "true",
            "POSTSEAL_RESOLVER__ROOT_HINTS": hints,
            "POSTSEAL_RESOLVER__ALLOW_PRIVATE_SERVERS": "true",
            "POSTSEAL_POLICY__TIMEOUT": "1s",
        }
        process = subprocess.Popen([binary], env=environment, cwd=directory, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    ask(port, b"QUERY example.com")
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            ask(port, b"QUERY [192.0.2.1]")
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=10) as answer:
                return answer.read().decode()
        finally:
            process.terminate()
            process.wait()


def main():
    page = read_page(os.path.abspath(sys.argv[1]))
    # Each family is described once, in front of its samples; promtool reports neither on its own.
    families = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    helped = re.findall(r"^# HELP (\S+) \S", page, re.MULTILINE)
    names = [name for name, _ in families]
    faults = [f"{name}: described twice" for name in set(names) if names.count(name) > 1]
    faults += [f"{name}: no help" for name in names if name not in helped]
    # The other program's names are not ours to better.
    ours = "".join(
        line for line in page.splitlines(keepends=True) if "postfix_tlspol_" not in line
    )
    lint = subprocess.run(["promtool", "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    faults += (lint.stdout + lint.stderr).splitlines()
    print(f"{len(names)} metrics")
    print("\n".join(faults))
    sys.exit(1 if faults or lint.returncode else 0)


if __name__ == "__main__":
    main()
