"""The place in which everything runs: a directory, namespaces of its own, and the processes started in them.

The harness runs itself again as the first process of new network, mount and process namespaces. When it ends, for
whatever reason, the kernel ends all that it started there, and addresses, mounts and firewall of the machine have
never been touched.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

DIRECTORY = "LAB_DIRECTORY"  # in the environment: we are inside, and this is the working directory
NETWORK = "10.53.0.0/16"


class LabError(Exception):
    """The lab itself does not work: no statement about postseal."""


def enter(keep=False):
    """Returns inside the namespaces; outside, runs this program again within them and exits as it does.

    The working directory outlives the inner run only when it is to be kept.
    """
    if os.environ.get(DIRECTORY):
        return
    if os.geteuid() != 0:
        sys.exit("the end-to-end test needs root: it makes network and mount namespaces and starts Postfix")
    directory = tempfile.mkdtemp(prefix="postseal-lab-")
    os.chmod(directory, 0o755)  # Postfix and postseal run as ordinary users
    flags = ["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *flags, sys.executable, "-B", *sys.argv]
    inner = subprocess.Popen(command, env=dict(os.environ, **{DIRECTORY: directory}))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: inner.kill())
    code = inner.wait()
    if keep:
        print(f"kept in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code if code >= 0 else 1)


def wait_for(what, condition, seconds, interval=0.05):
    """The first true value of `condition()`, or a LabError that names what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {seconds} s")
        time.sleep(interval)


class Lab:
    """A working directory and the processes whose files lie in it."""

    def __init__(self):
        self.directory = os.environ[DIRECTORY]
        self.processes = {}
        for command in ("ip link set lo up", f"ip route add local {NETWORK} dev lo"):
            self.run(*command.split())

    def path(self, *parts):
        """A path in the working directory, its parent directories made."""
        path = os.path.join(self.directory, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, text):
        """Writes a file below the working directory and returns its path."""
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def read(self, name):
        """The text of a file below the working directory, empty while there is none."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def run(self, *command, cwd=None, text=None):
        """Runs a command to its end and returns what it printed; a failure raises with it."""
        done = subprocess.run(command, cwd=cwd, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise LabError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, name, *command, env=None):
        """Starts a process whose output goes to `NAME.log`."""
        with open(self.path(f"{name}.log"), "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ, **(env or {})),
                cwd=self.directory,
            )
        self.processes[name] = process
        return process

    def stop(self, name, seconds=10):
        """Asks a process to end, ends it when it does not, and returns its exit code."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self, name):
        """Ends a process at once (SIGKILL)."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def check_running(self):
        """Raises with the log of the first process that has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise LabError(f"{name} ended with {process.returncode}:\n{self.read(name + '.log')[-4000:]}")

    def bind_over(self, target, text):
        """Puts a file with this text in the place of `target`, in this mount namespace only."""
        source = self.write("mounted/" + target.strip("/").replace("/", "-"), text)
        self.run("mount", "--bind", source, target)
