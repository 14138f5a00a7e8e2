"""postseal itself: its configuration for the lab, its process, and a socketmap client beside Postfix's."""

import os
import socket
import urllib.error
import urllib.request

from lab import wait_for

PORT, HTTP_PORT = 8642, 9642

CONFIG = """\
state-dir = "{state}"

[socketmap]
listen = ["127.0.0.1:{port}"]

[http]
listen = ["127.0.0.1:{http_port}"]

[dns]
listen = {dns}

[resolver]
root-hints = "{hints}"
trust-anchors = "{anchor}"
allow-private-servers = true

[mta-sts]
ca-file = "{authority}"
allow-private-addresses = true

[policy.overrides]
{overrides}

[log]
level = "info"
"""


class Daemon:
    """The binary under test, run as an ordinary user."""

    def __init__(self, lab, binary, zones, authority, overrides, dns):
        self.lab = lab
        self.state = os.path.dirname(lab.path("state/x"))
        lab.run("chown", "nobody", self.state)
        # A copy: the build directory may lie where an ordinary user cannot reach.
        self.binary = lab.path("postseal")
        lab.run("install", "-m", "755", binary, self.binary)
        self.config = lab.write(
            "postseal.toml",
            CONFIG.format(
                state=self.state,
                port=PORT,
                http_port=HTTP_PORT,
                dns='["127.0.0.1:53"]' if dns else "[]",
                hints=zones.hints,
                anchor=zones.anchor,
                authority=authority.certificate,
                overrides="\n".join(f'"{domain}" = "{policy}"' for domain, policy in overrides.items()),
            ),
        )

    def start(self, ready=True):
        """Starts it without any rights but the one to bind port 53.

        Returns when it says that it is ready, or, without `ready`, as soon as it takes connections.
        """
        rights = [
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service",
        ]
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs", *rights]
        self.lab.start("postseal", *user, self.binary, "--config", self.config, "serve")
        wait_for("postseal is up", self._ready if ready else self._listening, 30, 0.01)

    def stop(self):
        """SIGTERM; its exit code."""
        return self.lab.stop("postseal")

    def run(self, *arguments):
        """One of its commands, against the running daemon; what it printed."""
        return self.lab.run(self.binary, "--config", self.config, *arguments)

    def _ready(self):
        self.lab.check_running()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _listening(self):
        self.lab.check_running()
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            return True
        except OSError:
            return False

    @staticmethod
    def ask(key, name="QUERY", address="127.0.0.1"):
        """One socketmap lookup: the reply as Postfix gets it."""
        query = f"{name} {key}".encode()
        with socket.create_connection((address, PORT), timeout=100) as connection:
            connection.sendall(b"%d:%s," % (len(query), query))
            stream = connection.makefile("rb")
            length = b""
            while (digit := stream.read(1)) not in (b":", b""):
                length += digit
            return stream.read(int(length or 0)).decode("utf-8", "replace")
