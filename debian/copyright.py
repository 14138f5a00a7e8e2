#!/usr/bin/env python3
"""The `copyright` file of the packages: the licences of postseal and of all that is linked into its static binary.

usage: debian/copyright.py [TARGET] > copyright

TARGET is Rust's name of the platform (x86_64-unknown-linux-gnu). The form is Debian's machine-readable one
(copyright-format/1.0). Texts come from the sources of the crates that cargo has downloaded; a crate whose text cannot be
had is an error. Those of glibc and libgcc come from /usr/share/common-licenses, which Debian and its relatives have.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMON = pathlib.Path("/usr/share/common-licenses")
NAMES = re.compile(r"LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE", re.IGNORECASE)
# For crates whose sources have none.
ZERO_BSD = """\
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""
GCC_EXCEPTION = """\
libgcc is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as
published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.

Under Section 7 of GPL version 3, you are granted additional permissions described in the GCC Runtime Library Exception,
version 3.1, as published by the Free Software Foundation: you may propagate a work of target code formed by combining
the runtime library with independent modules, under terms of your choice.
"""


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def linked(target):
    """The metadata of the crates that are linked in or take part in that (derive macros), but for postseal itself, by name
    and version: all that the bill of materials in the binary names."""
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo = [package["id"] for package in packages.values() if package["name"] == "postseal"]
    wanted = set()
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and dependency["pkg"] not in wanted:
                wanted.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return sorted((packages[key] for key in wanted), key=lambda package: (package["name"], package["version"]))


def squeezed(text):
    return " ".join(text.split())


def is_apache(text):
    """Whether it is the text that stands at the end, once for all; some crates leave the appendix out."""
    return squeezed(text).startswith("Apache License Version 2.0, January 2004") and "END OF TERMS" in text


def texts(package):
    """The licence texts of a crate, but for the Apache Licence, which all share."""
    licence, sources = package["license"] or "", pathlib.Path(package["manifest_path"]).parent
    files = [file for file in sorted(sources.iterdir()) if file.is_file() and NAMES.search(file.name)]
    if package["license_file"]:
        files = sorted({*files, sources / package["license_file"]})
    if files:
        return [text for text in (file.read_text(errors="replace") for file in files) if not is_apache(text)]
    if "Apache-2.0" in re.split(r" OR |/", licence):
        return []
    if licence == "0BSD":
        return [ZERO_BSD]
    sys.exit(f"{package['name']} {package['version']}: no text of the licence {licence or '(none named)'}")


def holders(package, found):
    lines = {squeezed(line) for text in found for line in text.splitlines()
             if re.match(r"\W*(copyright|©)\W*(\(c\)|©|[0-9]{4})", line, re.IGNORECASE)}
    return sorted(lines) or [f"The authors of {package['name']}" + "".join(f", {name}" for name in package["authors"])]


def short(licence):
    """An SPDX expression in Debian's words."""
    return licence.replace("/", " or ").replace(" OR ", " or ").replace(" AND ", " and ").replace(" WITH ", " with ")


def folded(text):
    """A text as lines of a field that goes on."""
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return "".join(f" {line}\n" if line else " .\n" for line in lines)


def paragraph(files, holders, licence, body="", comment=""):
    out = f"Files: {files[0]}\n" + "".join(f" {file}\n" for file in files[1:])
    out += f"Copyright: {holders[0]}\n" + "".join(f" {holder}\n" for holder in holders[1:])
    out += f"License: {licence}\n{folded(body) if body else ''}"
    return out + (f"Comment: {comment}\n" if comment else "")


def common(name):
    try:
        return (COMMON / name).read_text()
    except OSError as error:
        sys.exit(f"the text of {name}: {error}")


def main():
    host = re.search(r"^host: (.*)$", run("rustc", "-vV"), re.MULTILINE).group(1)
    target = sys.argv[1] if len(sys.argv) > 1 else host
    groups = {}
    for package in linked(target):
        found = texts(package)
        key = (short(package["license"] or "see below"), tuple(map(squeezed, found)))
        groups.setdefault(key, []).append((package, found))
    mit = (ROOT / "LICENSE-MIT").read_text()
    print("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/")
    print("Upstream-Name: postseal")
    print("Comment: All that is linked into the binary is named here. crates/NAME-VERSION is a crate as crates.io has it.\n")
    print(paragraph(["*"], ["The postseal authors"], "MIT or Apache-2.0", mit))
    print(paragraph(["crates/rust-standard-library/*"], ["The Rust Project contributors"], "MIT or Apache-2.0", mit.split("\n\n", 1)[1]))
    print(paragraph(["crates/glibc/*"], ["Free Software Foundation, Inc. and others"], "LGPL-2.1+", common("LGPL-2.1"),
                    "Linked statically. postseal's source is public: who wants another glibc builds it with that one."))
    print(paragraph(["crates/libgcc/*"], ["Free Software Foundation, Inc."], "GPL-3+ with GCC exception",
                    GCC_EXCEPTION + "\n" + common("GPL-3")))
    for (licence, _), members in sorted(groups.items(), key=lambda item: item[1][0][0]["name"]):
        found = members[0][1]
        files = [f"crates/{package['name']}-{package['version']}/*" for package, _ in members]
        everybody = sorted({holder for package, _ in members for holder in holders(package, found)})
        print(paragraph(files, everybody, licence, "\n\n".join(found)))
    print("License: Apache-2.0\n" + folded((ROOT / "LICENSE-APACHE").read_text()), end="")


if __name__ == "__main__":
    main()
