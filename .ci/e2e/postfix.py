"""Postfix from Debian: instances with their own configuration, queue and log, and what their logs say."""

import dataclasses
import os
import re

import resolver

SOCKETMAP = "inet:127.0.0.1:8642"

MASTER = """\
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n -  0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -  - trivial-rewrite
bounce    unix  - - n -  0 bounce
defer     unix  - - n -  0 bounce
trace     unix  - - n -  0 bounce
proxymap  unix  - - n -  - proxymap
smtp      unix  - - n -  - smtp
error     unix  - - n -  - error
retry     unix  - - n -  - error
scache    unix  - - n -  1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclasses.dataclass
class Delivery:
    """What the log says about one delivery attempt."""

    status: str  # "sent", "deferred", "bounced"
    relay: str
    reason: str
    tls: list  # "Verified mx.example.com[10.53.25.1]:25", for each TLS session of the attempt
    lines: list


@dataclasses.dataclass
class Sender:
    """What tells one instance from another."""

    name: str
    level: str  # smtp_tls_security_level
    validated: bool = True  # its resolver validates


# With `dane`, Postfix's own lookups hide a missing answer of postseal. With a validating resolver they hide a missing
# TEMP for a bogus zone: the third instance sees bogus data as true and has postseal alone to hold the mail.
SENDERS = [Sender("may", "may"), Sender("dane", "dane"), Sender("credulous", "may", validated=False)]


class Postfix:
    """One instance of Postfix."""

    def __init__(self, lab, sender, authority, next_hops):
        self.lab, self.name, self.validated = lab, sender.name, sender.validated
        self.directory = f"postfix-{sender.name}"
        self.etc, queue, data = (
            os.path.dirname(lab.path(self.directory, part, "x")) for part in ("etc", "queue", "data")
        )
        lab.run("chown", "postfix", data)
        transport = lab.write(
            f"{self.directory}/etc/transport", "".join(f"{domain} smtp:{hop}\n" for domain, hop in next_hops.items())
        )
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": queue,
            "data_directory": data,
            "maillog_file": lab.path(self.directory, "log"),
            "maillog_file_prefixes": lab.directory,
            "myhostname": "sender.lab",
            "mydestination": "",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "transport_maps": f"texthash:{transport}",
            "smtputf8_enable": "yes",
            "smtp_dns_support_level": "dnssec",
            "smtp_host_lookup": "dns",
            "smtp_tls_security_level": sender.level,
            "smtp_tls_policy_maps": f"socketmap:{SOCKETMAP}:QUERY",
            "smtp_tls_CAfile": authority.certificate,
            "smtp_tls_loglevel": "1",
        }
        lab.write(f"{self.directory}/etc/main.cf", "".join(f"{key} = {value}\n" for key, value in settings.items()))
        lab.write(f"{self.directory}/etc/master.cf", MASTER)

    def takes(self, case):
        """Whether this instance can have the case: DANE needs a validating resolver."""
        return self.validated or not case.dane

    def start(self):
        if self.validated:
            self.lab.run("postfix", "-c", self.etc, "start")
            return
        other = self.lab.write(f"{self.directory}/resolv.conf", f"nameserver {resolver.CREDULOUS}\n")
        script = 'mount --bind "$1" /etc/resolv.conf && exec postfix -c "$2" start'
        self.lab.run("unshare", "--mount", "sh", "-c", script, "sh", other, self.etc)

    def stop(self):
        self.lab.run("postfix", "-c", self.etc, "stop")

    def send(self, recipient):
        """Hands in one message."""
        text = f"From: tester@sender.lab\nTo: {recipient}\nSubject: lab\n\nhello\n"
        self.lab.run("sendmail", "-C", self.etc, "-f", "tester@sender.lab", recipient, text=text)

    def log(self):
        return self.lab.read(f"{self.directory}/log")

    def delivery(self, recipient):
        """The first delivery attempt for a recipient, None until its outcome is logged.

        The TLS lines name no queue id; they are those of the same process since its last outcome.
        """
        mine = {}
        for line in self.log().splitlines():
            process = re.search(r" postfix\S*/(\w+)\[(\d+)\]: (.*)", line)
            if not process:
                continue
            lines = mine.setdefault(process[2], [])
            lines.append(line)
            outcome = re.search(
                r"to=<([^>]*)>,(?: orig_to=<[^>]*>,)? relay=([^,]*),.* status=(\w+) \((.*)\)$", process[3]
            )
            if outcome and outcome[1] == recipient:
                return Delivery(outcome[3], outcome[2], outcome[4], self._sessions(lines), lines)
            if outcome:
                mine[process[2]] = []
        return None

    @staticmethod
    def _sessions(lines):
        found = (re.search(r": (\w+) TLS connection established to (\S+?): ", line) for line in lines)
        return [f"{session[1]} {session[2]}" for session in found if session]
