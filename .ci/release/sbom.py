#!/usr/bin/env python3
"""The bill of materials of a built binary, from the list of dependencies that cargo-auditable put into it.

usage: sbom.py BINARY > postseal.cdx.json

Prints CycloneDX 1.5 JSON: the crates that are linked in, not those of build scripts and macros. What is printed is
what the binary itself says, so the two cannot disagree.
"""

import hashlib
import json
import struct
import sys
import zlib

SECTION = b".dep-v0"


class NoList(Exception):
    """Not a 64-bit ELF file, or one without a list."""


def section(elf, name):
    """The octets of a section of a little-endian 64-bit ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise NoList("not a 64-bit ELF file")
    table, size, count, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    strings = headers[names][4]
    for at, _, _, _, offset, length in headers:
        if elf[strings + at :].split(b"\0", 1)[0] == name:
            return elf[offset : offset + length]
    raise NoList(f"no section {name.decode()}: not built with cargo-auditable")


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    kind = {"type": "application"} if package.get("root") else {"type": "library"}
    return {
        **kind,
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
    }


def bill(binary):
    """The CycloneDX document as a dictionary."""
    packages = json.loads(zlib.decompress(section(binary, SECTION)))["packages"]
    linked = [package for package in packages if package.get("kind", "runtime") == "runtime"]
    own = next(package for package in linked if package.get("root"))
    digest = {"alg": "SHA-256", "content": hashlib.sha256(binary).hexdigest()}

    def needed(package):
        return [packages[i] for i in package.get("dependencies", []) if packages[i] in linked]

    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(own), "hashes": [digest]}},
        "components": [component(package) for package in linked if package is not own],
        "dependencies": [
            {"ref": reference(package), "dependsOn": sorted({reference(other) for other in needed(package)})}
            for package in linked
        ],
    }


def main():
    with open(sys.argv[1], "rb") as file:
        try:
            json.dump(bill(file.read()), sys.stdout, indent=2, sort_keys=True)
        except NoList as error:
            sys.exit(f"{sys.argv[1]}: {error}")
    print()


if __name__ == "__main__":
    main()
