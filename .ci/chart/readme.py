#!/usr/bin/env python3
"""The table of values in the chart's README, made from values.yaml: its comments are the descriptions.

usage: readme.py [--check]    (--check changes nothing, and fails where the table is not current)
"""

import functools
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parent.parent.parent / "helm" / "postseal"
BEGIN, END = "<!-- values: made by .ci/chart/readme.py -->\n", "<!-- end of values -->\n"


def rows(text):
    """Key, default and description of each value that has a comment; what lies within such a value is part of it."""
    values = yaml.safe_load(text)
    path, comment, within = [], [], None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if within is not None and line and indent > within:
            continue
        within = None
        if line.lstrip().startswith("#"):
            comment.append(line.strip("# "))
        elif key := re.match(r" *([A-Za-z]+):", line):
            path[indent // 2 :] = [key.group(1)]
            value = functools.reduce(lambda inner, name: inner[name], path, values)
            if comment:
                yield ".".join(path), value, " ".join(comment)
                within = indent
            elif not isinstance(value, dict):
                sys.exit(f"values.yaml: {'.'.join(path)} has no comment")
            comment = []


def table(text):
    lines = ["| value | default | |", "|---|---|---|"]
    for key, value, description in rows(text):
        lines.append(f"| `{key}` | `{json.dumps(value, ensure_ascii=False)}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def leaves(schema, definitions, prefix=""):
    for name, part in schema.get("properties", {}).items():
        inner = definitions.get(part.get("$ref", "").rpartition("/")[2], part)
        if inner.get("properties") and "definitions" not in part.get("$ref", ""):
            yield from leaves(inner, definitions, f"{prefix}{name}.")
        else:
            yield prefix + name


def without_default(text):
    """Keys that the schema allows and values.yaml does not show."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load(text)
    # Helm's own; and what is as in Kubernetes, shown as one value.
    as_in_kubernetes = {"global", "affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}
    for key in sorted(set(leaves(schema, schema["definitions"])) - as_in_kubernetes):
        inner = values
        for part in key.split("."):
            if part not in inner:
                yield key
                break
            inner = inner[part]


def main():
    text = (CHART / "values.yaml").read_text()
    missing = list(without_default(text))
    if missing:
        sys.exit(f"values.yaml does not show {', '.join(missing)}")
    readme = CHART / "README.md"
    old = readme.read_text()
    new = re.sub(f"{BEGIN}.*{END}", lambda _: BEGIN + table(text) + END, old, flags=re.S)
    if "--check" not in sys.argv:
        readme.write_text(new)
    elif new != old:
        sys.exit("the table of values is not current: run .ci/chart/readme.py")


if __name__ == "__main__":
    main()
