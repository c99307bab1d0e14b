#!/usr/bin/env python3
"""Measures Sluice beside nginx, HAProxy, Envoy and a minimal relay (the floor), all in one run.

    bench/run.py                     every scenario
    bench/run.py small h2c           these
    bench/run.py --list              their names

Each proxy has one worker and is pinned to one core; load generator and backend share another. CPU figures are the CPU time
of the proxy's whole process tree, so they hold on a machine that does other things as well, if not too many; they are
medians of rounds in which the proxies take turns. An answer that is not the right one fails the scenario.
docs/internals/performance.md tells what was measured and what it means.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

import change
import over_time
import per_request
import peers
from machine import LOAD_CORE, PROXY_CORE, Failure, compile_tools, make_certificate
from report import table



def kube(bench):
    try:
        import kube as scenario
    except ImportError as error:
        raise Failure(f"{error}: run it with build/venv/bin/python, which scripts/test.sh makes") from None
    return scenario.kube(bench)


SCENARIOS = {
    "small": per_request.small, "routes": per_request.routes, "filters": per_request.filters, "https": per_request.https,
    "tls_new": per_request.tls_new, "h2c": per_request.h2c, "h2_tls": per_request.h2_tls, "grpc": per_request.grpc,
    "sse": over_time.sse, "large": per_request.large, "idle": over_time.idle, "start": over_time.start,
    "latency": over_time.latency, "change": change.change, "kube": kube,
}


# Their figures are times on the clock: with --nice they run before the machine's other work.
ON_THE_CLOCK = ("start", "latency", "change", "kube")


class Bench:
    """What every scenario gets: options, tools, a directory, a backend."""

    def __init__(self, options, directory):
        self.rounds, self.seconds, self.changes = options.rounds, options.seconds, options.changes
        self.kube_changes = options.kube_changes
        self.directory = pathlib.Path(directory)
        self.environment = dict(os.environ)
        self.tools = compile_tools()
        self.tls = make_certificate(directory)
        self.process, self.backend = peers.backend(self.tools, directory)

    @staticmethod
    def set_priority(nice):
        """Of this process and all that it has started: its session's, which is what the kernel's autogroups go by."""
        group = pathlib.Path("/proc/self/autogroup")
        if group.exists() and pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1":
            group.write_text(str(nice))
        else:
            os.setpriority(os.PRIO_PGRP, 0, nice)

    @staticmethod
    def say(text):
        print(f"  {text}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="default: all but kube")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all proxies (default 5)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds of load per proxy and round (default 2)")
    parser.add_argument("--changes", type=int, default=1000, help="changes of the scenario `change` (default 1000)")
    parser.add_argument("--kube-changes", type=int, default=5000, help="changes of the scenario `kube` (default 5000)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--binary", default=os.environ.get("SLUICE_BINARY", peers.Sluice.binary),
                        help="the sluice to measure (default: SLUICE_BINARY, build/release/sluice)")
    parser.add_argument("--nice", type=int, default=0, metavar="N",
                        help=f"niceness in the scenarios that measure time on the clock ({', '.join(ON_THE_CLOCK)}); on a machine "
                             "with other work -10, as root (default 0)")
    parser.add_argument("--strict", action="store_true", help="status 1 if a budget is missed")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SCENARIOS))
        return 0
    unknown = [s for s in options.scenario if s not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)} (there are {', '.join(SCENARIOS)})")
    peers.Sluice.binary = pathlib.Path(options.binary).resolve()
    if not peers.Sluice.binary.exists():
        parser.error(f"{peers.Sluice.binary} does not exist: build it first (scripts/build.sh release)")
    absent = {k.name for k in peers.ALL} - {k.name for k in peers.available(peers.ALL)}
    if absent:
        print(f"not installed, so not measured: {', '.join(sorted(absent))} (scripts/setup.sh bench)", file=sys.stderr)

    if options.nice:
        with contextlib.suppress(PermissionError):  # already a group of its own, as below an interactive shell
            os.setsid()
    rows, failed = [], []
    directory = tempfile.mkdtemp(prefix="sluice-bench-")
    bench = Bench(options, directory)
    try:
        for name in options.scenario or [s for s in SCENARIOS if s != "kube"]:
            print(f"{name} …", file=sys.stderr, flush=True)
            begun = time.monotonic()
            if options.nice:
                bench.set_priority(options.nice if name in ON_THE_CLOCK else 0)
            try:
                rows += SCENARIOS[name](bench)
            except Exception as failure:  # the other scenarios' figures are not to be lost
                failed.append(f"{name}: {failure}")
                print(f"  FAILED: {failure}", file=sys.stderr)
                if not isinstance(failure, Failure):
                    traceback.print_exc()
            print(f"  {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        bench.process.stop()
        shutil.rmtree(directory, ignore_errors=True)

    about = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
             "cores": {"proxy": PROXY_CORE, "load": LOAD_CORE}, "load_average": os.getloadavg(),
             "rounds": options.rounds, "seconds": options.seconds, "nice": options.nice}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {**about, "rows": [row.json() for row in rows], "failed": failed}, indent=1) + "\n")
    print(f"\n{about['date']}; one worker each; medians of {options.rounds} rounds of {options.seconds:g} s; "
          f"load average {about['load_average'][0]:.1f}\n")
    print("\n".join(table(rows)))
    for line in failed:
        print(f"failed: {line}")
    return 1 if failed or (options.strict and any(row.met is False for row in rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
