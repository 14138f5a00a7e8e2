"""compose.yaml in the lab: postseal beside Postfix, and what must hold when either of them is killed."""

import json
import os
import re
import shutil
import urllib.request

from daemon import Daemon
from lab import wait_for
from postfix import Postfix

POSTFIX_IMAGE = "postseal-postfix"
PROMETHEUS = "http://127.0.0.1:9090/api/v1"
FILES = ["--file", "compose.yaml", "--file", ".ci/e2e/compose.lab.yaml", "--project-directory", "."]

# Beside what image and compose.yaml say.
CONFIG = """\
[resolver]
root-hints = "/lab/root.hints"
trust-anchors = "/lab/root.key"
allow-private-servers = true
forward = [{{ zone = "prometheus", servers = ["127.0.0.11"] }}]

[mta-sts]
ca-file = "/lab/ca.pem"
allow-private-addresses = true

[policy.overrides]
{overrides}
"""
# In the place of what docker/postfix/main.cf says.
SETTINGS = {
    "myhostname": "sender.lab",
    "transport_maps": "texthash:/lab/transport",
    "smtp_tls_CAfile": "/lab/ca.pem",
    # The lab's Postfix is older than the image's, and knows nothing of reports.
    "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8642:QUERY",
}


class Services:
    """The services of compose.yaml, with what the lab has to tell them."""

    def __init__(self, lab, engine, zones, authority, overrides, next_hops):
        self.lab, self.engine, self.zones = lab, engine, zones
        directory = os.path.dirname(lab.path("compose/x"))
        for source, name in (
            (zones.hints, "root.hints"),
            (zones.anchor, "root.key"),
            (authority.certificate, "ca.pem"),
        ):
            shutil.copy(source, f"{directory}/{name}")
        lines = "\n".join(f'"{domain}" = "{policy}"' for domain, policy in overrides.items())
        lab.write("compose/postseal.toml", CONFIG.format(overrides=lines))
        lab.write("compose/transport", "".join(f"{domain} smtp:{hop}\n" for domain, hop in next_hops.items()))
        with open("docker/postfix/main.cf", encoding="utf-8") as file:
            settings = [line for line in file if line.partition(" ")[0] not in SETTINGS]
        settings += [f"{key} = {value}\n" for key, value in SETTINGS.items()]
        lab.write("compose/main.cf", "".join(settings))

    def start(self):
        """Returns when postseal is healthy, and Postfix runs."""
        self.compose("--profile", "monitoring", "up", "--detach", "--no-build", "postfix", "prometheus")
        self.containers = {
            service: self.compose("ps", "--quiet", service).strip() for service in ("network", "postseal", "postfix")
        }
        self.wait_for_health()
        self.engine.follow("postseal", self.containers["postseal"])
        self.engine.follow("postfix", self.containers["postfix"])
        (network,) = self.inspect("network")["NetworkSettings"]["Networks"].values()
        self.postseal = Postseal(self, network["IPAddress"])
        self.postfix = ComposedPostfix(self)

    def stop(self):
        self.compose("--profile", "monitoring", "down", "--volumes")

    def compose(self, *arguments):
        return self.engine.run(*self.engine.compose, *FILES, *arguments)

    def inspect(self, service):
        return self.engine.inspect(self.containers[service])

    def exec(self, service, *command, text=None):
        return self.engine.docker("exec", "--interactive", self.containers[service], *command, text=text)

    def wait_for_health(self):
        wait_for("postseal is healthy", lambda: self.inspect("postseal")["State"]["Health"]["Status"] == "healthy", 60)

    # --- what is checked besides mail

    def checks(self):
        """Yields (name, what is wrong, output)."""
        yield self.expect("IPv6 is off: ::1 is left out, with a warning", self.lab.read("postseal.log"), r"IPv6 is off")
        yield self.asks_postseal("as in docs/docker.md")
        yield self.monitored()
        seen = self.exec("postfix", "getent", "ahostsv4", "prometheus")
        yield self.expect("names of other containers, forwarded to Docker's resolver", seen, r"^\d+\.\d+\.\d+\.\d+ ")
        for service in ("postfix", "postseal"):
            self.engine.docker("restart", "--time", "15", self.containers[service])
            self.wait_for_health()
            yield self.asks_postseal(f"{service} started again")
        yield from self.killed()
        self.engine.docker("stop", self.containers["postseal"])
        code = self.inspect("postseal")["State"]["ExitCode"]
        yield "postseal ends with 0 when its container is stopped", [] if code == 0 else [f"exit code {code}"], []

    def asks_postseal(self, when):
        """Both ways from Postfix to postseal, with Postfix's own tools."""
        finger = self.exec("postfix", "posttls-finger", "-c", "-t", "30", "-l", "dane", "dane.com")
        return self.expect(
            f"Postfix has policies and validated DNS, {when}",
            finger + self.policy_of_postfix("dane.com"),
            r"(?s)Verified TLS connection.*^dane-only$",
        )

    def monitored(self):
        """Prometheus sees postseal, and has its alert rules."""

        def ask(what):
            with urllib.request.urlopen(f"{PROMETHEUS}/{what}", timeout=5) as answer:
                return json.load(answer)["data"]

        def seen():
            return any(target["health"] == "up" for target in ask("targets")["activeTargets"])

        wait_for("Prometheus scrapes postseal", seen, 60, 0.5)
        names = [rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]]
        return f"Prometheus scrapes postseal, with {len(names)} rules", [] if names else ["no rules"], []

    def policy_of_postfix(self, domain):
        return self.exec("postfix", "postmap", "-q", domain, "socketmap:inet:127.0.0.1:8642:QUERY")

    def killed(self):
        """SIGKILL, with the name servers gone as well: what was a policy before is one after."""
        before = self.postseal.run("export")
        for name in [name for name in self.lab.processes if name.startswith("nsd-")]:
            self.lab.kill(name)
        self.engine.docker("kill", "--signal", "KILL", self.containers["postseal"])
        self.engine.docker("start", self.containers["postseal"])
        wait_for("postseal takes connections", self.postseal.listens, 30)
        lost = sorted(set(before.splitlines()) - set(self.postseal.run("export").splitlines()))
        held = len(re.findall(r"(?m)^\S+\s+(?:dane|secure)", before))
        wrong = [f"{len(lost)} of {held} policies are lost"] if lost or not held else []
        yield f"all {held} policies outlive SIGKILL", wrong, lost
        yield self.expect("one of them without any DNS", self.policy_of_postfix("dane.com"), r"^dane-only$")

    @staticmethod
    def expect(name, seen, pattern):
        return name, [] if re.search(pattern, seen, re.MULTILINE) else [f"nothing like {pattern!r}"], seen.splitlines()


def image_of(service):
    """The image that compose.yaml has pulled for a service."""
    with open("compose.yaml", encoding="utf-8") as file:
        return re.search(rf"^  {service}:\n(?:    .*\n)*?    image: (\S+)", file.read(), re.MULTILINE)[1]


class Postseal:
    """The daemon in its container, as `daemon.Daemon` is the one beside the lab's own Postfix."""

    def __init__(self, services, address):
        self.services, self.address = services, address

    def ask(self, key, name="QUERY"):
        return Daemon.ask(key, name, self.address)

    def run(self, *arguments):
        return self.services.exec("postseal", "/postseal", *arguments)

    def listens(self):
        try:
            return bool(self.ask(""))
        except OSError:
            return False


class ComposedPostfix(Postfix):
    """Postfix in its container."""

    def __init__(self, services):
        # Not the parent's: its files come from compose.yaml.
        self.services, self.lab = services, services.lab
        self.name, self.validated = "compose", True

    def send(self, recipient):
        text = f"From: tester@sender.lab\nTo: {recipient}\nSubject: lab\n\nhello\n"
        self.services.exec("postfix", "sendmail", "-f", "tester@sender.lab", recipient, text=text)

    def log(self):
        return self.lab.read("postfix.log")
