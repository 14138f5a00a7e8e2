#!/usr/bin/env python3
"""A bare start: the binary without a configuration file, rights or network answers at once and ends when asked to.

usage: first_start.py BINARY
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROUNDS = 5
# From start to an answer that needs no network. The best of the rounds counts: others share this machine.
FIRST_ANSWER_SECONDS = 0.1
EXIT_SECONDS = 10


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def ask(port, query):
    """One socketmap lookup; None while nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"%d:%s," % (len(query), query))
            return connection.makefile("rb").read(1 + 1 + len("NOTFOUND "))
    except ConnectionRefusedError:
        return None


def status_of(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Round:
    """One start, what it answers, and its end."""

    def __init__(self, binary, directory):
        self.port, self.http_port = free_port(), free_port()
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        environment = {
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": directory,
            "POSTSEAL_SOCKETMAP__LISTEN": f'["127.0.0.1:{self.port}"]',
            "POSTSEAL_HTTP__LISTEN": f'["127.0.0.1:{self.http_port}"]',
        }
        started = time.monotonic()
        self.process = subprocess.Popen([*user, binary], env=environment, cwd=directory)
        try:
            self.answer, self.seconds = self.first_answer(started)
            self.alive = status_of(self.http_port, "/livez")
            self.ready = status_of(self.http_port, "/readyz")
        finally:
            self.process.terminate()
            ended = time.monotonic()
            self.code = self.process.wait(EXIT_SECONDS + 20)
            self.exit_seconds = time.monotonic() - ended

    def first_answer(self, started):
        while (answer := ask(self.port, b"QUERY [192.0.2.1]")) is None:
            if self.process.poll() is not None or time.monotonic() - started > 10:
                return None, float("inf")
            time.sleep(0.002)
        return answer, time.monotonic() - started


def main():
    if os.geteuid() == 0 and "ALONE" not in os.environ:
        inner = 'ip link set lo up && exec "$@"'
        namespace = ["unshare", "--net", "sh", "-c", inner, "sh", sys.executable, "-B", *sys.argv]
        sys.exit(subprocess.call(namespace, env=dict(os.environ, ALONE="1")))
    top = tempfile.mkdtemp(prefix="postseal-start-")
    try:
        os.chmod(top, 0o755)
        binary = shutil.copy(sys.argv[1], top)
        rounds = []
        for number in range(ROUNDS):
            directory = os.path.join(top, str(number))
            os.mkdir(directory)
            os.chmod(directory, 0o777)
            rounds.append(Round(binary, directory))
    finally:
        shutil.rmtree(top)
    best, slowest_exit = min(r.seconds for r in rounds), max(r.exit_seconds for r in rounds)
    checks = [
        ("an address literal is NOTFOUND", all(r.answer == b"9:NOTFOUND " for r in rounds), [r.answer for r in rounds]),
        ("first answer within 100 ms", best < FIRST_ANSWER_SECONDS, f"{best * 1000:.0f} ms"),
        ("alive", all(r.alive == 200 for r in rounds), [r.alive for r in rounds]),
        ("ends with 0 when asked to", all(r.code == 0 for r in rounds), [r.code for r in rounds]),
        ("ends within 10 s", slowest_exit < EXIT_SECONDS, f"{slowest_exit:.2f} s"),
    ]
    if os.environ.get("ALONE"):
        checks.append(
            ("not ready while the root cannot be reached", all(r.ready == 503 for r in rounds), rounds[0].ready)
        )
    for name, right, seen in checks:
        print(f"{'ok   ' if right else 'FAIL '} {name}: {seen}")
    sys.exit(not all(right for _, right, _ in checks))


if __name__ == "__main__":
    main()
