#!/usr/bin/env python3
"""The image and compose.yaml, built and run by a Docker Engine that can pull nothing; Postfix sends mail in the lab.

usage: image.py --base base.tar --binary target/shipped/postseal [--only TEXT] [--keep]

`base.tar` is a Debian with all that the two Dockerfiles ask for, and with Prometheus; it takes the place of the images
that would be pulled. `--binary` is what docker/build-static made elsewhere: the one in the image must be the same, octet
for octet.
"""

import argparse
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile

import compose
import engine
from daemon import Daemon
from lab import LabError, wait_for
from run import Run, carry_out

IMAGE = compose.image_of("postseal")
COMPRESSED_BYTES = 4_000_000
USER = 65532
# Where `base.tar` has what the Rust image has elsewhere.
BASE_ENVIRONMENT = [
    "PATH=/usr/local/rust/bin:/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "CARGO_HOME=/usr/local/cargo",
]
# Prometheus' own image starts it so.
PROMETHEUS = [
    *("--change", 'ENTRYPOINT ["prometheus"]'),
    *("--change", 'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'),
]
# As compose.yaml has it.
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


class ImageRun(Run):
    """Builds the image, looks into it, runs it by itself and in compose.yaml."""

    def title(self):
        return "image and compose.yaml"

    def everything(self):
        self.engine = engine.Engine(self.lab)
        self.engine.start()
        self.build_images()
        self.check_content()
        self.check_settings()
        self.check_foreign_directory()
        self.check_older_builder()
        self.check_published_port()
        self.check_postfix_lines()
        self.check_without_internet()
        self.build_world()
        self.services = compose.Services(
            self.lab, self.engine, self.zones, self.authority, self.overrides(), self.next_hops()
        )
        self.services.start()
        self.daemon = self.services.postseal
        self.check_confinement()
        self.send_cases(self.services.postfix)
        self.check_answers()
        self.check_deliveries(self.services.postfix)
        for name, wrong, lines in self.services.checks():
            self.tell(name, wrong, lines)
        self.services.stop()
        self.engine.stop()

    def build_images(self):
        """Both Dockerfiles, without a network."""
        rust, debian = base_of("docker/Dockerfile"), base_of("docker/postfix/Dockerfile")
        changes = [word for setting in BASE_ENVIRONMENT for word in ("--change", f"ENV {setting}")]
        self.engine.docker("import", *changes, self.options.base, rust)
        self.engine.docker("tag", rust, debian)
        self.engine.docker("import", *PROMETHEUS, self.options.base, compose.image_of("prometheus"))
        build = ["build", "--network", "none", "--tag"]
        self.engine.docker(*build, IMAGE, "--file", "docker/Dockerfile", ".")
        self.engine.docker(*build, compose.POSTFIX_IMAGE, "docker/postfix")
        self.tell("both images are built", [])

    def check_content(self):
        """Size and files; the same binary as from elsewhere."""
        size = self.engine.inspect(IMAGE)["Size"]
        packed = int(self.engine.run("sh", "-c", f"docker save {IMAGE} | gzip -9 | wc -c"))
        print(f"      {size / 1e6:.2f} MB, compressed {packed / 1e6:.2f} MB")
        wrong = [f"{packed} octets"] if packed > COMPRESSED_BYTES else []
        self.tell(f"compressed, at most {COMPRESSED_BYTES / 1e6:.0f} MB", wrong)
        path = self.lab.path("image.tar")
        self.engine.docker("save", "--output", path, IMAGE)
        files, binary = unpack(path)
        expected = ["postseal 0 755", f"var/lib/postseal {USER} 700"]
        wrong = [] if sorted(files) == expected else [f"it holds {files}"]
        self.tell("the image holds one file and the state directory of its user", wrong)
        with open(self.options.binary, "rb") as file:
            elsewhere = hashlib.sha256(file.read()).hexdigest()
        inside = hashlib.sha256(binary).hexdigest()
        wrong = [] if inside == elsewhere else [f"{inside} in the image, {elsewhere} elsewhere"]
        self.tell(f"two builds, one digest: {inside[:16]}", wrong)

    def check_settings(self):
        """What the image says about itself."""
        config = self.engine.inspect(IMAGE)["Config"]
        with open("Cargo.toml", encoding="utf-8") as file:
            version = re.search(r'^version = "(.*)"', file.read(), re.MULTILINE)[1]
        labels = config["Labels"]
        expected = {
            "entry point": (config["Entrypoint"], ["/postseal"]),
            "command": (config["Cmd"], ["serve"]),
            "user": (config["User"], f"{USER}:{USER}"),
            "health check without a shell": (config["Healthcheck"]["Test"], ["CMD", "/postseal", "healthcheck"]),
            "stop signal": (config["StopSignal"], "SIGTERM"),
            "volume": (list(config["Volumes"]), ["/var/lib/postseal"]),
            "version label": (labels["org.opencontainers.image.version"], version),
            "licence label": (labels["org.opencontainers.image.licenses"], "MIT OR Apache-2.0"),
        }
        for name, (seen, wanted) in expected.items():
            self.tell(f"image: {name}", [] if seen == wanted else [f"{seen!r}, not {wanted!r}"])

    def check_foreign_directory(self):
        """A fresh directory of root's as volume is told with the remedy; with IPv6, DNS listens on ::1 as well."""
        directory = os.path.dirname(self.lab.path("foreign/x"))
        more = ["--volume", f"{directory}:/var/lib/postseal", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0"]
        container = self.engine.docker("run", "--detach", *CONFINED, *more, IMAGE).strip()
        expected = [
            f"it belongs to user 0, postseal runs as user {USER}: chown",
            "dns listening address=127.0.0.1:53",
            "dns listening address=[::1]:53",
        ]

        def seen():
            lines = self.engine.docker("logs", container)
            return lines if all(line in lines for line in expected) else None

        try:
            wait_for("all of " + "; ".join(expected), seen, 20)
            wrong = []
        except LabError as error:
            wrong = [str(error), self.engine.docker("logs", container)]
        self.tell("a state directory of another user is told with the remedy; IPv6 is used where it is", wrong)
        self.engine.docker("rm", "--force", container)
        shutil.rmtree(directory)

    def check_older_builder(self):
        """The Dockerfile by the builder that sets none of BuildKit's variables, with a binary that is there already."""
        shutil.copy("docker/Dockerfile", self.lab.path("older/docker/Dockerfile"))
        shutil.copy(self.options.binary, self.lab.path("older/postseal"))
        script = '#!/bin/sh\n[ "$1" = "$(dpkg --print-architecture)" ] && install -D -m 755 postseal "$2"\n'
        self.lab.write("older/docker/build-static", script)
        os.chmod(self.lab.path("older/docker/build-static"), 0o755)
        directory = os.path.dirname(self.lab.path("older/x"))
        command = ["build", "--network", "none", "--tag", "older", "--file", f"{directory}/docker/Dockerfile", directory]
        try:
            self.engine.run("env", "DOCKER_BUILDKIT=0", "docker", *command)
            said, wrong = self.engine.docker("run", "--rm", "older", "--version"), []
        except LabError as error:
            said, wrong = "", [str(error)]
        if not wrong and not said.startswith("postseal "):
            wrong = [said]
        self.tell("the Dockerfile needs none of BuildKit's variables", wrong)

    def check_published_port(self):
        """The one line of docs/docker.md: a container by itself, its port published on the host's loopback."""
        line = command_of_readme("docker run -d --name postseal --restart")
        wrong = [] if line[-1] == IMAGE else [f"{line[-1]}, not {IMAGE}"]
        container = self.engine.run(*line).strip()
        try:
            wait_for("an answer at the published port", lambda: asked("[192.0.2.1]") == "NOTFOUND ", 30)
        except LabError as error:
            wrong += [str(error), self.engine.docker("logs", container)]
        self.tell("the page's `docker run` answers on the host's loopback", wrong)
        self.engine.docker("rm", "--force", "--volumes", container)

    def check_postfix_lines(self):
        """What compose.yaml's Postfix is told is what postseal would print for its version."""
        with open("docker/postfix/main.cf", encoding="utf-8") as file:
            there = {line.strip() for line in file}
        command = [self.options.binary, "postfix-config", "--postfix-version", "3.10", "--main-cf", "/dev/null"]
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        wrong = [f"not there: {line}" for line in wanted if line not in there] or ([] if wanted else ["no lines"])
        self.tell(f"docker/postfix/main.cf has the {len(wanted)} lines of postfix-config", wrong)

    def check_without_internet(self):
        """`compose up` where no root server can be reached: Postfix runs."""
        command = [*self.engine.compose, "--file", "compose.yaml", "--project-name", "alone"]
        wrong = []
        try:
            self.engine.run(*command, "up", "--detach", "--no-build", "postfix")
            postfix = self.engine.run(*command, "ps", "--quiet", "postfix").strip()
            status = ("docker", "exec", postfix, "postfix", "status")
            wait_for("Postfix", lambda: self.engine.succeeds(*status), 30)
        except LabError as error:
            wrong = [str(error)]
        self.tell("without the internet, `compose up` starts Postfix", wrong)
        self.engine.run(*command, "down", "--volumes")

    def check_confinement(self):
        """What the kernel says about the process in the container."""
        process = self.services.inspect("postseal")["State"]["Pid"]
        with open(f"/proc/{process}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        expected = {"CapBnd": "0" * 16, "CapEff": "0" * 16, "NoNewPrivs": "1", "Uid": "\t".join([str(USER)] * 4)}
        wrong = [f"{key} {status[key]}" for key, value in expected.items() if status[key] != value]
        with open(f"/proc/{process}/mountinfo", encoding="ascii") as file:
            root = next(line.split() for line in file if line.split()[4] == "/")
        if "ro" not in root[5].split(","):
            wrong.append("its root can be written")
        self.tell("no capability, no new privileges, nothing to write but the volume", wrong)
        health = self.services.inspect("postseal")["State"]["Health"]["Status"]
        self.tell("healthy", [] if health == "healthy" else [health])


def command_of_readme(beginning):
    """A command of docs/docker.md by how it begins, as words, its lines joined."""
    with open("docs/docker.md", encoding="utf-8") as file:
        found = re.search(rf"^    ({re.escape(beginning)}(?:.*\\\n)*.*)$", file.read(), re.MULTILINE)
    return shlex.split(found[1].replace("\\\n", " "))


def asked(key):
    try:
        return Daemon.ask(key)
    except OSError:
        return None


def base_of(dockerfile):
    """The image that a Dockerfile begins with, its one ARG before FROM."""
    with open(dockerfile, encoding="utf-8") as file:
        return re.search(r"^ARG \w+=(\S+)$", file.read(), re.MULTILINE)[1]


def unpack(path):
    """What a saved image holds, as `name owner mode` without the directories of root; and the binary."""
    files, binary = {}, b""
    with tarfile.open(path) as image:
        for layer in (member for member in image if member.name.endswith(".tar")):
            with tarfile.open(fileobj=io.BytesIO(image.extractfile(layer).read())) as content:
                for member in content:
                    if member.isdir() and member.uid == 0:
                        continue
                    files[member.name] = f"{member.name} {member.uid} {member.mode & 0o7777:o}"
                    if member.name == "postseal":
                        binary = content.extractfile(member).read()
    return list(files.values()), binary


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--base", required=True, help="tar file of the base image")
    carry_out(ImageRun, arguments)


if __name__ == "__main__":
    main()
