#!/usr/bin/env python3
"""Kills postseal at random moments while it learns policies; none that it has answered by may be gone afterwards.

Each round: postseal starts, is asked for MTA-STS domains that it does not know yet, and is killed (SIGKILL). Then it
starts again with the network cut off, and must answer `secure` for every domain of which it ever said so. At last, one
byte of its store is changed at a time: it must start, and still have nine tenths of them.

usage: crash.py --binary target/shipped/postseal [--rounds 50] [--damages 20] [--seed N] [--keep]
"""

import argparse
import os
import random
import re
import shutil
import sys
import threading

import certificates
import daemon
import lab as labs
import policy_host
import zones
from world import Domain, enforce

PER_ROUND, THREADS = 24, 8
ZONE = "many.org"
SECURE = rf"OK secure match=\.{re.escape(ZONE)} servername=hostname$"


class Crash:
    """The lab, and what postseal has promised so far."""

    def __init__(self, lab, options):
        self.lab, self.random = lab, random.Random(options.seed)
        self.rounds = [[f"r{i}n{j}.{ZONE}" for j in range(PER_ROUND)] for i in range(options.rounds)]
        authority = certificates.Authority(lab)
        pems = {}
        for number, names in enumerate(self.rounds):
            pem = authority.issue(f"round-{number}", [f"mta-sts.{name}" for name in names])
            pems.update(dict.fromkeys(names, pem))
        policy_host.serve(dict.fromkeys(pems, enforce(f"*.{ZONE}")), pems)
        tree = zones.Zones(lab, authority, [Domain("hoster.net"), Domain(ZONE, records=list(records(pems)))])
        tree.build()
        tree.serve()
        self.daemon = daemon.Daemon(lab, options.binary, tree, authority, {}, dns=False)
        self.promised = set()

    def round(self, names):
        """Learns and dies; what is missing afterwards, as (domain, reply)."""
        self.daemon.start()
        waiting = list(names)
        askers = [threading.Thread(target=self.ask_all, args=(waiting,)) for _ in range(THREADS)]
        for asker in askers:
            asker.start()
        # The moment of death is one of progress, so that it does not depend on the machine's speed.
        enough = len(self.promised) + self.random.randrange(len(names))
        labs.wait_for("policies are learnt", lambda: len(self.promised) >= enough, 60, 0.001)
        self.lab.kill("postseal")
        for asker in askers:
            asker.join()
        return self.missing()

    def missing(self):
        """Starts without a network; the promises that are not kept, as (domain, reply)."""
        self.lab.run("ip", "route", "del", "local", labs.NETWORK, "dev", "lo")
        self.daemon.start(ready=False)
        replies = {name: self.daemon.ask(name) for name in sorted(self.promised)}
        self.lab.kill("postseal")
        self.lab.run("ip", "route", "add", "local", labs.NETWORK, "dev", "lo")
        return [(name, reply) for name, reply in replies.items() if not re.match(SECURE, reply)]

    def damage(self):
        """Changes one byte of one file of the store, looks what is missing, and puts the store back."""
        whole, state = self.lab.path("whole"), self.daemon.state
        self.lab.run("cp", "-a", state, whole)
        files = sorted(os.path.join(top, name) for top, _, names in os.walk(state) for name in names)
        path = self.random.choice([file for file in files if os.path.isfile(file) and os.path.getsize(file)])
        with open(path, "r+b") as file:
            offset = file.seek(self.random.randrange(os.path.getsize(path)))
            value = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([value ^ self.random.randrange(1, 256)]))
        try:
            missing = self.missing()
        finally:
            shutil.rmtree(state)
            os.rename(whole, state)
        return f"byte {offset} of {os.path.relpath(path, state)}", len(missing)

    def ask_all(self, waiting):
        """Asks until nothing is left or nobody answers, and notes each promise."""
        while waiting:
            try:
                name = waiting.pop()
                if re.match(SECURE, self.daemon.ask(name)):
                    self.promised.add(name)
            except (OSError, IndexError, ValueError):
                return


def records(names):
    """Zone lines that give each of these names, below the zone, an MX host and a policy host."""
    yield "mx A 10.53.25.1"
    for name in names:
        label = name.removesuffix("." + ZONE)
        yield f"{label} MX 10 mx"
        yield f'_mta-sts.{label} TXT "v=STSv1; id=1;"'
        yield f"mta-sts.{label} A {policy_host.ADDRESS}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", required=True, help="postseal")
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--damages", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--keep", action="store_true", help="leave the working directory, with all logs")
    options = arguments.parse_args()
    labs.enter(options.keep)
    lost, lab = 0, labs.Lab()
    try:
        crash = Crash(lab, options)
        for number, names in enumerate(crash.rounds):
            missing = crash.round(names)
            lost += len(missing)
            for name, reply in missing[:3]:
                print(f"      round {number}: {name}: {reply!r}")
        damages = [crash.damage() for _ in range(options.damages)]
        learnt = len(crash.promised)
        # Deaths that come before anything is learnt, or after everything is, would prove nothing.
        sensible = 0.1 < learnt / (PER_ROUND * options.rounds) < 0.95
        print(
            f"{'ok   ' if sensible else 'FAIL '} killed while learning: {learnt} of {PER_ROUND * options.rounds} learnt"
        )
        print(f"{'FAIL ' if lost else 'ok   '} {options.rounds} kills, {lost} answers lost, seed {options.seed}")
        harmful = [f"{where} costs {missing} of {learnt}" for where, missing in damages if missing > learnt / 10]
        most = max((missing for _, missing in damages), default=0)
        print(
            f"{'FAIL ' if harmful else 'ok   '} {len(damages)} damaged bytes, at most {most} of {learnt} lost {harmful}"
        )
        sys.exit(bool(lost) or not sensible or bool(harmful))
    except labs.LabError as error:
        print(f"FAIL  the run came to its end: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
