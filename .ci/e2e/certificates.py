"""A private certificate authority, the certificates of mail and policy hosts, and the TLSA records that fit them."""

import hashlib
import os

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]


class Authority:
    """Issues certificates for the lab."""

    def __init__(self, lab):
        self.lab = lab
        self.certificate, self.key = lab.path("tls/ca.pem"), lab.path("tls/ca.key")
        lab.run(
            "openssl",
            "req",
            "-x509",
            *CURVE,
            "-subj",
            "/CN=lab authority",
            "-keyout",
            self.key,
            "-out",
            self.certificate,
        )
        os.chmod(self.certificate, 0o644)

    def issue(self, label, names, self_signed=False):
        """A PEM file with key and chain for these DNS names; `label` names the file."""
        key, leaf, both = (self.lab.path(f"tls/{label}.{end}") for end in ("key", "crt", "pem"))
        signer = [] if self_signed else ["-CA", self.certificate, "-CAkey", self.key]
        extensions = [
            "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
            "basicConstraints=critical,CA:FALSE",
        ]
        options = [part for extension in extensions for part in ("-addext", extension)]
        self.lab.run(
            "openssl", "req", "-x509", *CURVE, "-subj", "/CN=" + label, *signer, *options, "-keyout", key, "-out", leaf
        )
        chain = [key, leaf] if self_signed else [key, leaf, self.certificate]
        with open(both, "w", encoding="ascii") as out:
            for part in chain:
                with open(part, encoding="ascii") as file:
                    out.write(file.read())
        return both

    def tlsa(self, kind, label):
        """TLSA RDATA for the certificate issued as `label`; the kinds are those of `world.Host.tlsa`."""
        leaf = self.lab.path(f"tls/{label}.crt")
        if kind == "key":
            return "3 1 1 " + self._digest("pkey", leaf)
        if kind == "authority":
            return "2 0 1 " + self._digest("x509", self.certificate)
        if kind == "other-key":
            return "3 1 1 " + hashlib.sha256(b"another key").hexdigest()
        if kind == "unusable":
            return "1 1 1 " + self._digest("pkey", leaf)
        raise ValueError(kind)

    def _digest(self, what, certificate):
        """SHA-256 over a certificate, or over its public key, as RFC 6698 §2.1 has it."""
        if what == "x509":
            command = ["openssl", "x509", "-in", certificate, "-outform", "DER"]
        else:
            public = self.lab.path(certificate + ".pub")
            self.lab.run("openssl", "x509", "-in", certificate, "-noout", "-pubkey", "-out", public)
            command = ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"]
        der = certificate + "." + what + ".der"
        self.lab.run(*command, "-out", der)
        with open(der, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
