#!/usr/bin/env python3
"""Docker Engine in the lab: a daemon of its own, in the lab's namespaces, which cannot pull anything.

Run as a program it says whether Docker can run on this machine: exit code 0, or the reason why not.
"""

import json
import os
import subprocess
import sys

from lab import Lab, LabError, enter, wait_for

# Debian's client and daemon belong together; another client may lie elsewhere on the path.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Engine:
    """The daemon and its clients."""

    def __init__(self, lab):
        self.lab = lab
        self.directory = os.path.dirname(lab.path("docker/x"))
        self.environment = dict(
            os.environ,
            PATH=PATH,
            DOCKER_HOST=f"unix://{self.directory}/socket",
            DOCKER_CONFIG=f"{self.directory}/client",
            DOCKER_BUILDKIT="1",
            COMPOSE_DOCKER_CLI_BUILD="1",
            BUILDKIT_PROGRESS="plain",
        )

    def start(self):
        """Without rules for a firewall: what the containers are to reach is in the lab itself."""
        state = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/run"]
        places = ["--pidfile", f"{self.directory}/pid", "--host", self.environment["DOCKER_HOST"]]
        rules = ["--iptables=false", "--ip6tables=false", "--ip-masq=false"]
        self.lab.start("dockerd", "dockerd", *state, *places, *rules, env=self.environment)

        def up():
            self.lab.check_running()
            return self.succeeds("docker", "info")

        wait_for("Docker", up, 60, 0.1)
        self.compose = ["docker", "compose"] if self.succeeds("docker", "compose", "version") else ["docker-compose"]

    def stop(self):
        """Ends the daemon and with it the mounts of its containers."""
        self.lab.stop("dockerd", 30)

    def succeeds(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0

    def run(self, *command, text=None):
        """Runs `docker` or `docker-compose` to its end; what it printed."""
        options = {"input": text, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, env=self.environment, **options)
        if done.returncode:
            raise LabError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def docker(self, *arguments, text=None):
        return self.run("docker", *arguments, text=text)

    def inspect(self, name):
        """What the daemon knows about a container or an image."""
        return json.loads(self.docker("inspect", name))[0]

    def follow(self, name, container):
        """Writes what a container prints into `NAME.log` of the lab, as it comes, for as long as it runs."""
        self.lab.start(name, "/usr/bin/docker", "logs", "--follow", container, env=self.environment)


def main():
    enter()
    engine = Engine(Lab())
    try:
        engine.start()
        engine.stop()
    except (LabError, OSError) as error:
        sys.exit(f"Docker cannot run here: {error}")


if __name__ == "__main__":
    main()
