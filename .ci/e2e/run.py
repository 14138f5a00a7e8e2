#!/usr/bin/env python3
"""End to end: Postfix sends mail in a private network, by postseal's answers. Exits with 0 when all cases are right.

usage: run.py --binary target/shipped/postseal [--resolver unbound|postseal] [--only TEXT] [--keep]
"""

import argparse
import re
import sys
import time

import certificates
import clients
import daemon
import lab as labs
import policy_host
import resolver
import sinks
import zones
from cases import CASES, COMMANDS, QUESTIONS
from postfix import SENDERS, Postfix

# The slowest path: postseal's 20 s, then Postfix's own resolver, which waits for silent servers too.
OUTCOME_SECONDS = 150
UNWANTED = {
    "failure of the policy table, other than a temporary answer": r"socketmap(?!.*(temporary error|lookup error for))",
    "panic or fatal error": r": (panic|fatal): ",
}


class Run:
    """The lab with everything in it, and the tally."""

    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        self.cases = [case for case in CASES if options.only in case.name or options.only in case.recipient]
        self.passed, self.failed = 0, 0

    def title(self):
        """What the last line calls it."""
        return f"end to end, resolver {self.options.resolver}"

    def everything(self):
        self.build()
        self.send()
        self.check()

    def build_world(self):
        """Certificates, zones, mail hosts, policy hosts."""
        domains = list({domain.name: domain for case in CASES for domain in case.domains}.values())
        self.authority = certificates.Authority(self.lab)
        self.sinks = sinks.Sinks()
        for host in (host for domain in domains for host in domain.hosts):
            self.open_mail_host(host)
        policies = {domain.name: domain.policy for domain in domains if domain.policy}
        policy_host.serve(
            policies, {name: self.authority.issue("mta-sts." + name, ["mta-sts." + name]) for name in policies}
        )
        policy_host.listen_silently()
        self.zones = zones.Zones(self.lab, self.authority, domains)
        self.zones.build()
        self.zones.serve()

    def build(self):
        """Everything but the senders: the world, resolver, postseal."""
        self.build_world()
        own = self.options.resolver == "postseal"
        resolver.start_unbound(self.lab, self.zones, resolver.CREDULOUS, validate=False)
        if not own:
            resolver.start_unbound(self.lab, self.zones, resolver.VALIDATING, validate=True)
        self.lab.bind_over("/etc/resolv.conf", f"nameserver {resolver.VALIDATING}\n")
        self.daemon = daemon.Daemon(self.lab, self.options.binary, self.zones, self.authority, self.overrides(), own)
        self.daemon.start()

    @staticmethod
    def overrides():
        """What `policy.overrides` must hold."""
        return {case.key: case.override for case in CASES if case.override}

    def next_hops(self):
        """Recipient domain -> what transport_maps sends its mail to."""
        return {case.recipient.rpartition("@")[2]: case.next_hop for case in self.cases if case.next_hop}

    def open_mail_host(self, host):
        """Its certificate and its listeners."""
        certificate = None
        if host.certificate or host.tlsa:
            name = "elsewhere.net" if host.certificate == "other-name" else host.name
            certificate = self.authority.issue(host.name, [name], self_signed=host.certificate == "self")
        for port in {25, *host.tlsa}:
            self.sinks.listen(host, port, certificate if host.certificate else None)

    def send(self):
        """Starts the instances of Postfix, each with one message for each of its cases."""
        self.senders = [Postfix(self.lab, sender, self.authority, self.next_hops()) for sender in SENDERS]
        for sender in self.senders:
            sender.start()
            self.send_cases(sender)

    def send_cases(self, sender):
        """One message for each of the sender's cases."""
        for case in filter(sender.takes, self.cases):
            sender.send(self.recipient(sender, case))

    @staticmethod
    def recipient(sender, case):
        """The recipient, told apart by sender."""
        return case.recipient.replace("user@", f"{sender.name}@")

    def check(self):
        """Answers first, then what the senders did by them."""
        self.check_answers()
        for sender in self.senders:
            self.check_deliveries(sender)
            sender.stop()
        if not self.options.only:
            self.check_troubleshooting()
            for command, pattern in COMMANDS:
                self.check_command(command, pattern)
        if self.options.resolver == "postseal":
            for name, wrong, lines in clients.checks(self.lab, self.zones):
                self.tell(name, wrong, lines)
        code = self.daemon.stop()
        self.tell("postseal ends with 0 when asked to", [] if code == 0 else [f"exit code {code}"])

    def check_answers(self):
        """What postseal says when asked by itself."""
        for case in self.cases:
            self.check_answer(case.name, "QUERY", case.key, case.answer)
        if not self.options.only:
            for question in QUESTIONS:
                self.check_answer(*question)

    def check_deliveries(self, sender):
        """What became of the sender's messages, and its log."""
        for case in filter(sender.takes, self.cases):
            wrong, lines = self.judge(sender, case)
            self.tell(f"{sender.name}: {case.name}", wrong, lines)
        self.check_log(sender)

    def check_answer(self, what, table, key, pattern):
        """One lookup as Postfix makes it."""
        try:
            reply = self.daemon.ask(key, table)
        except OSError as error:
            reply = f"no reply: {error}"
        self.tell(f"answer: {what}", [] if re.match(pattern, reply) else [f"expected {pattern!r}, got {reply!r}"])

    def check_command(self, command, pattern):
        """One command of the operator."""
        try:
            printed = self.daemon.run(*command.split())
            wrong = [] if re.search(pattern, printed.strip("\n") + "\n") else [f"nothing like {pattern!r}"]
        except labs.LabError as error:
            printed, wrong = "", [str(error)]
        self.tell(f"postseal {command}", wrong, printed.splitlines())

    def judge(self, sender, case):
        """What is wrong with one delivery, and the log lines that show it."""
        recipient = self.recipient(sender, case)
        try:
            seen = labs.wait_for(
                f"an outcome for {recipient}", lambda: sender.delivery(recipient), OUTCOME_SECONDS, 0.2
            )
        except labs.LabError as error:
            return [str(error)], sender.log().splitlines()[-20:]
        arrived = [message for message in self.sinks.received if recipient in message.recipients]
        if case.host is None:
            return judge_deferred(case, seen, arrived), seen.lines
        return judge_delivered(case, seen, arrived), seen.lines

    def check_log(self, sender):
        """What must not be logged: failures, and Postfix's doubts about its resolver, unless they are due."""
        for what, pattern in UNWANTED.items():
            lines = [line for line in sender.log().splitlines() if re.search(pattern, line)]
            self.tell(f"{sender.name}: no {what}", [f"{len(lines)} lines"] if lines else [], lines[:5])
        if not any(map(sender.takes, self.cases)):
            return
        doubts = [line for line in sender.log().splitlines() if "DNSSEC validation may be unavailable" in line]
        expected = not sender.validated
        self.tell(
            f"{sender.name}: Postfix {'doubts' if expected else 'trusts'} its resolver",
            [] if bool(doubts) == expected else ["it does not" if expected else "it does not trust it"],
            doubts,
        )

    def check_troubleshooting(self):
        """Each log line that the page explains is one that Postfix logs."""
        with open("docs/troubleshooting.md", encoding="utf-8") as file:
            pieces = re.findall(r"(?m)^### `(.+)`$", file.read())
        logs = "".join(sender.log() for sender in self.senders)
        missing = [f"no {piece!r} in any log" for piece in pieces if piece not in logs]
        self.tell("the log lines of docs/troubleshooting.md are Postfix's own", missing if pieces else ["none there"])

    def tell(self, name, wrong, lines=()):
        if not wrong:
            self.passed += 1
            print(f"ok    {name}", flush=True)
            return
        self.failed += 1
        print(f"FAIL  {name}: " + "; ".join(wrong), *(f"      {line}" for line in lines), sep="\n", flush=True)


def judge_deferred(case, seen, arrived):
    wrong = []
    if seen.status != "deferred":
        wrong.append(f"status {seen.status} ({seen.reason})")
    elif not re.search(case.reason, seen.reason):
        wrong.append(f"deferred, but for {seen.reason!r}")
    if arrived:
        wrong.append(f"arrived at {arrived[0].host}:{arrived[0].port}")
    return wrong


def judge_delivered(case, seen, arrived):
    wrong = []
    if seen.status != "sent":
        return [f"status {seen.status} ({seen.reason})"]
    if [f"{message.host}:{message.port}" for message in arrived] != [case.host]:
        wrong.append(f"arrived at {[(message.host, message.port) for message in arrived]}")
    if any(message.smtputf8 != case.smtputf8 for message in arrived):
        wrong.append("SMTPUTF8 not as expected")
    session = seen.tls[-1].split(" ")[0] if seen.tls else None
    if session != case.tls:
        wrong.append(f"{session or 'no'} TLS session, expected {case.tls or 'none'}")
    if bool(case.tls) != bool(arrived and arrived[0].tls):
        wrong.append("the mail host saw it otherwise")
    return wrong


def carry_out(kind, arguments):
    """Reads the command line, enters the lab and does all of one `kind` of run. Exits with 0 when all is right."""
    arguments.add_argument("--binary", required=True, help="postseal")
    arguments.add_argument("--only", default="", help="cases whose name or recipient contains this")
    arguments.add_argument("--keep", action="store_true", help="leave the working directory, with all logs")
    options = arguments.parse_args()
    labs.enter(options.keep)
    sys.stdout.reconfigure(encoding="utf-8")
    started, lab = time.monotonic(), labs.Lab()
    run = kind(lab, options)
    try:
        run.everything()
    except labs.LabError as error:
        run.tell("the run came to its end", [str(error)])
    if run.failed:
        print("--- postseal's log", lab.read("postseal.log")[-6000:], sep="\n")
    seconds = time.monotonic() - started
    print(f"{run.title()}: {run.passed} ok, {run.failed} failed, {seconds:.0f} s")
    sys.exit(run.failed > 0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument(
        "--resolver", choices=("unbound", "postseal"), default="unbound", help="what Postfix's resolv.conf names"
    )
    carry_out(Run, arguments)


if __name__ == "__main__":
    main()
