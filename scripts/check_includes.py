#!/usr/bin/env python3
"""Refuses an #include against the direction of the house (docs/internals/overview.md), and files that have outgrown it."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent / "src"

# Each directory may include itself and these.
ALLOWED = {
    "base": [],
    "event": ["base"],
    "net": ["base", "event"],
    "http": ["base", "event", "net"],
    "config": ["base", "net"],
    "filter": ["base", "event", "net", "http", "config"],
    "upstream": ["base", "event", "net", "http", "config", "filter"],
    "plugins": ["base", "event", "net", "http", "config", "filter"],
    "proxy": ["base", "event", "net", "http", "config", "filter", "upstream", "plugins"],
    "resource": ["base"],
    "source": ["base", "event", "net", "http", "resource"],
    "compile": ["base", "net", "config", "filter", "plugins", "resource"],
    "api": ["base", "event", "net", "http", "config", "upstream", "proxy", "resource", "source", "compile"],
    "cli": ["base", "event", "net", "config", "proxy", "resource", "source", "compile", "api"],
}
MAX_LINES = 800


def main():
    problems = []
    for path in sorted(ROOT.rglob("*")):
        if path.suffix not in (".h", ".cc"):
            continue
        directory = path.relative_to(ROOT).parts[0]
        lines = path.read_text().splitlines()
        if len(lines) > MAX_LINES and not path.name.endswith("_test.cc"):
            problems.append(f"{path.relative_to(ROOT.parent)}: {len(lines)} lines; above {MAX_LINES} it is two ideas")
        for number, line in enumerate(lines, 1):
            match = re.match(r'#include "([a-z]+)/', line)
            if not match or match.group(1) == directory or match.group(1) not in ALLOWED:
                continue
            if match.group(1) not in ALLOWED[directory]:
                problems.append(f"{path.relative_to(ROOT.parent)}:{number}: {directory}/ must not include {match.group(1)}/")
    print("\n".join(problems) or "include directions: good")
    return 1 if problems else 0


sys.exit(main())
