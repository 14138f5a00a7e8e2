"""postseal as the machine's resolver, seen by the programs that people check resolvers with, and by glibc."""

import ctypes
import os
import re
import subprocess
import sys

from lab import LabError, wait_for

SERVER, STRANGER = "127.0.0.1", "10.53.99.99"
MX = 15


def checks(lab, zones):
    """Yields (name, what is wrong, output) for each client and question."""
    delv_anchor = lab.write("delv.anchor", delv_anchors(zones.anchor))

    def output(*command):
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return done.stdout

    def dig(*words):
        return output("dig", f"@{SERVER}", "+tries=1", "+timeout=20", *words)

    finger = ("posttls-finger", "-c", "-t", "30", "-l", "dane")
    delv = ("delv", f"@{SERVER}", "-a", delv_anchor, "+root=.")
    drill = ("drill", "-S", "-k", zones.anchor)
    secure, plain, bogus = ("dane.com", "MX"), ("plain.org", "MX"), ("bogus.com", "MX")
    expectations = [
        ("posttls-finger, DANE domain", [*finger, "dane.com"], r"Verified TLS connection established to mx\.dane\.com"),
        ("posttls-finger, mismatching TLSA", [*finger, "dane-mismatch.org"], r"(?s)^(?!.*Verified TLS).*Untrusted TLS"),
        ("delv, signed", [*delv, *secure], r"; fully validated"),
        ("delv, unsigned", [*delv, *plain], r"; unsigned answer"),
        ("delv, bogus", [*delv, *bogus], r"resolution failed|broken trust chain"),
        ("drill -S, signed", [*drill, f"@{SERVER}", *secure], r";; Chase successful"),
    ]
    for name, command, pattern in expectations:
        yield judge(name, output(*command), pattern)
    for transport in ("+notcp", "+tcp"):
        for name, words, pattern in DIG:
            yield judge(f"dig {transport} {' '.join(words)}, {name}", dig(transport, *words), pattern)
    for domain, expected in (("dane.com", "AD"), ("plain.org", "no AD"), ("bogus.com", "failed")):
        seen = output(sys.executable, "-B", __file__, domain).strip()
        yield f"glibc with trust-ad, {domain}: {expected}", [] if seen == expected else [f"{seen}"], []
    yield from low_port(lab, output)


def low_port(lab, output):
    """Port 53 as an ordinary user: refused with all three remedies, and served with the sysctl alone."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    state = os.path.dirname(lab.path("low-port/x"))
    lab.run("chown", "nobody", state)
    settings = {
        "state-dir": state,
        "dns.listen": "[\"127.0.0.9:53\"]",
        "socketmap.listen": "[\"127.0.0.9:8642\"]",
        "http.listen": "[]",
    }
    command = [*user, lab.path("postseal"), *(f"--set={key}={value}" for key, value in settings.items()), "serve"]
    told = r"not in its bounding set.*ip_unprivileged_port_start is 1024 and not 53.*systemd handed over no DNS socket"
    yield judge("port 53 without any right: what is missing is told", output(*command), told)
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w", encoding="ascii") as file:
        file.write("53")
    lab.start("low-port", *command)
    try:
        wait_for("postseal on port 53", lambda: "dns listening" in lab.read("low-port.log"), 10)
        answer = output("dig", "@127.0.0.9", "+tries=1", "localhost", "A")
        yield judge("port 53 by the sysctl alone", answer, r"(?s)status: NOERROR,.*\b127\.0\.0\.1\b")
    except LabError as error:
        yield "port 53 by the sysctl alone", [str(error)], lab.read("low-port.log").splitlines()
    finally:
        lab.stop("low-port")


FLAGS = r"(?s)status: {status},.*;; flags: (?=[^;]*\bra\b){ad}[^;]*;"
AD, NO_AD = r"(?=[^;]*\bad\b)", r"(?![^;]*\bad\b)"
DIG = [
    ("the probe of Postfix", ("+dnssec", ".", "NS"), FLAGS.format(status="NOERROR", ad=AD)),
    ("secure", ("+dnssec", "dane.com", "MX"), FLAGS.format(status="NOERROR", ad=AD) + r".*\bRRSIG\b"),
    (
        "AD asked for without DO",
        ("+adflag", "dane.com", "MX"),
        FLAGS.format(status="NOERROR", ad=AD) + r"(?!.*\bRRSIG\b)",
    ),
    ("neither AD nor DO", ("+noadflag", "dane.com", "MX"), FLAGS.format(status="NOERROR", ad=NO_AD)),
    ("secure denial", ("+dnssec", "none.dane.com", "A"), FLAGS.format(status="NXDOMAIN", ad=AD) + r".*\bNSEC3?\b"),
    ("secure alias", ("+dnssec", "mail.aliased.com", "A"), FLAGS.format(status="NOERROR", ad=AD) + r".*\bCNAME\b"),
    ("insecure", ("+dnssec", "plain.org", "MX"), FLAGS.format(status="NOERROR", ad=NO_AD)),
    ("bogus", ("+dnssec", "bogus.com", "MX"), r"(?s)status: SERVFAIL,.*EDE: "),
    ("bogus, checking disabled", ("+dnssec", "+cd", "bogus.com", "MX"), FLAGS.format(status="NOERROR", ad=NO_AD)),
    ("from an address that is not allowed", ("-b", STRANGER, "dane.com", "MX"), r"status: REFUSED"),
    ("local name", ("localhost", "A"), r"(?s)status: NOERROR,.*\b127\.0\.0\.1\b"),
]


def judge(name, seen, pattern):
    return name, [] if re.search(pattern, seen) else [f"nothing like {pattern!r}"], seen.splitlines()[-30:]


def delv_anchors(path):
    """The trust anchor in the form of BIND's configuration."""
    with open(path, encoding="ascii") as file:
        owner, fields = re.search(r"^(\S+)\s+(?:\d+\s+)?IN\s+DNSKEY\s+([^;]*)", file.read(), re.MULTILINE).groups()
    flags, protocol, algorithm, key = fields.split(None, 3)
    return f'trust-anchors {{ {owner} static-key {flags} {protocol} {algorithm} "{key.strip()}"; }};\n'


def ask_glibc(domain):
    """What glibc's own stub resolver says about AD, where resolv.conf lets it trust the server."""
    library = ctypes.CDLL("libresolv.so.2")
    buffer = ctypes.create_string_buffer(4096)
    query = getattr(library, "res_query", None) or library.__res_query
    length = query(domain.encode(), 1, MX, buffer, len(buffer))
    if length < 0:
        return "failed"
    return "AD" if buffer.raw[3] & 0x20 else "no AD"


if __name__ == "__main__":
    os.environ["RES_OPTIONS"] = "trust-ad edns0"
    print(ask_glibc(sys.argv[1]))
