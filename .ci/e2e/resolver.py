"""Postfix's own resolver where it is not postseal: Unbound from Debian, which validates, or as a credulous one."""

VALIDATING, CREDULOUS = "127.0.0.1", "127.0.0.2"

CONFIG = """\
server:
  interface: {address}
  module-config: "{modules}"
  use-syslog: no
  verbosity: 1
  val-log-level: 2
  do-daemonize: no
  num-threads: {threads}
  incoming-num-tcp: 100
  chroot: ""
  username: ""
  directory: "{directory}"
  pidfile: ""
  root-hints: "{hints}"
  trust-anchor-file: "{anchor}"
  trust-anchor-signaling: no
remote-control:
  control-enable: no
"""


def start_unbound(lab, zones, address, validate, threads=1):
    """Starts it on port 53 of an address."""
    modules = "validator iterator" if validate else "iterator"
    name = f"unbound-{address}"
    places = {"directory": lab.directory, "hints": zones.hints, "anchor": zones.anchor}
    config = lab.write(f"{name}.conf", CONFIG.format(address=address, modules=modules, threads=threads, **places))
    lab.start(name, "unbound", "-d", "-c", config)
