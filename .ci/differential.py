#!/usr/bin/env python3
"""Judges the JSON of a differential run: no answer of a hard class, no more avoidable failures than Unbound.

usage: differential.py RESULT.json
"""

import json
import sys

HARD = (
    *("crash", "ad-forged", "ad-on-bogus", "ad-on-insecure", "ad-on-broken"),
    *("downgrade-forged", "downgrade-bogus", "downgrade-unproven", "downgrade-true"),
    *("fail-clean", "content-clean", "chain-lost", "ad-missing"),
)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        result = json.load(file)
    mine = result["totals"].get(result["sut"], {})
    reference = result["totals"].get("unbound", {})
    checks = [(f"no {name}", mine.get(name, 0) == 0, mine.get(name, 0)) for name in HARD]
    failing, allowed = mine.get("fail-faulty", 0), reference.get("fail-faulty", 0)
    checks.append(("fail-faulty no more than Unbound's", failing <= allowed, f"{failing} to {allowed}"))
    unfinished = [world["seed"] for world in result["errors"]]
    checks.append(("every world finished", not unfinished, unfinished))
    for name, right, seen in checks:
        print(f"{'ok   ' if right else 'FAIL '} {name}: {seen}")
    print(f"{result['worlds']} worlds, {result['questions']} questions, {result['seconds']} s")
    sys.exit(not all(right for _, right, _ in checks))


if __name__ == "__main__":
    main()
