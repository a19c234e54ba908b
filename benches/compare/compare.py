#!/usr/bin/env python3
"""Compares fulmar with redis-server, memcached and a bare echo, side by side on this machine.

    compare.py                                     all scenarios, 5 rounds
    compare.py --only p1 --only p16                some
    compare.py --only two-shards --shards 1,2 --dispatch borrow,message
    compare.py --echo "target/release/echo {port} {cpu}" --json out.json --check

Servers of a scenario run at once, pinned; each round measures each of them in turn, with the same
client. What counts is server CPU time per operation (/proc), then throughput and percentiles, as
ratios to redis-server. Prints a Markdown report. `--check` makes the exit code tell whether the
limits in scenarios.py hold. Two otherwise idle cores are needed.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time

import report
from scenarios import KEYS_COUNT, VALUE_BYTES, scenarios
from subjects import HERE, ROOT, all_running

CLIENT_SECONDS_MAX = 180


def parse_options():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="scenarios whose name begins so")
    parser.add_argument("--shards", default="1,2", help="shard counts of the two-shards scenarios")
    parser.add_argument("--dispatch", default="borrow,message")
    parser.add_argument("--fulmar", default=os.path.join(ROOT, "target/release/fulmar"))
    parser.add_argument("--echo", help="command of a bare echo; {port} and {cpu} are filled in")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of requests")
    parser.add_argument("--json", help="file for all measured rounds")
    parser.add_argument("--check", action="store_true", help="fail if a limit does not hold")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    # Servers are started in directories of their own.
    options.fulmar = os.path.abspath(options.fulmar)
    if options.echo:
        binary, _, arguments = options.echo.partition(" ")
        options.echo = f"{os.path.abspath(binary)} {arguments}"
    return options


def client_command(scenario, running, operation, requests):
    """The client's command line."""
    pinned = ["taskset", "-c", scenario.client_cpus]
    if scenario.client == "redis-benchmark":
        return [*pinned, "redis-benchmark", "-h", "127.0.0.1", "-p", str(running.port),
                "-t", operation, "-n", str(requests), "-r", str(KEYS_COUNT),
                "-d", str(VALUE_BYTES), "-c", str(scenario.connections),
                "-P", str(scenario.pipeline), "--csv"]
    protocol = "memcached" if running.subject.kind == "memcached" else "resp"
    return [*pinned, sys.executable, os.path.join(HERE, "closed_loop.py"), str(running.port),
            protocol, operation, str(requests), str(scenario.connections),
            str(scenario.pipeline), str(KEYS_COUNT), str(VALUE_BYTES)]


def measure(scenario, running, operation, requests):
    """One round of one server: its figures."""
    command = client_command(scenario, running, operation, requests)
    counted, used = running.counters(), running.cpu_ns()
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS_MAX)
    used = running.cpu_ns() - used
    counted = {name: (value - counted.get(name, 0.0)) / requests
               for name, value in running.counters().items()}
    if done.returncode != 0 or not done.stdout.strip():
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    figures = client_figures(scenario, done.stdout)
    return {**figures, "cpu_us": used / 1000 / requests, "counters": counted}


def client_figures(scenario, output):
    """rps, p50_ms and p99_ms from what the client printed."""
    if scenario.client != "redis-benchmark":
        return json.loads(output)
    rows = [row for row in csv.reader(output.splitlines()) if len(row) > 6]
    if len(rows) != 2:
        raise SystemExit(f"redis-benchmark printed:\n{output}")
    row = dict(zip(rows[0], rows[1]))
    return {"rps": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"]),
            "p99_ms": float(row["p99_latency_ms"])}


def run_scenario(scenario, options):
    """All rounds of a scenario: {(subject, operation): rounds} and the command lines."""
    requests = max(scenario.pipeline * scenario.connections,
                   int(scenario.requests * options.scale))
    results = {}
    with all_running(scenario.subjects, scenario.server_cpus, options) as running:
        commands = [f"{one.subject.name}: {one.command}" for one in running]
        for one in running[:1]:
            commands.append("client: " + " ".join(
                client_command(scenario, one, "get", requests)))
        for number in range(-1, options.rounds):
            for operation in scenario.operations:
                for one in running:
                    # The first round warms up and is not counted.
                    figures = measure(scenario, one, operation,
                                      requests if number >= 0 else max(requests // 10, 10_000))
                    if number >= 0:
                        results.setdefault((one.subject, operation), []).append(figures)
            print(f"  {scenario.name}: round {number + 1} of {options.rounds}", file=sys.stderr)
    relative = [line.replace(ROOT + os.sep, "") for line in commands]
    return results, [line.replace(sys.executable, "python3") for line in relative]


def main():
    """Entry point."""
    options = parse_options()
    modes = options.dispatch.split(",")
    chosen = [scenario for scenario in scenarios(list(map(int, options.shards.split(","))), modes)
              if not options.only or any(map(scenario.name.startswith, options.only))]
    if options.list:
        print("\n".join(f"{scenario.name}: {scenario.title}" for scenario in chosen))
        return 0
    for tool in ("redis-benchmark", "taskset"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is not installed")
    if os.cpu_count() < 2:
        raise SystemExit("two cores are needed, one for the server and one for the client")
    started, all_results, commands = time.monotonic(), {}, {}
    for scenario in chosen:
        all_results[scenario.name], commands[scenario.name] = run_scenario(scenario, options)
    print(report.markdown(chosen, all_results, commands, options))
    lines, is_ok = report.verdicts(all_results)
    print("\n".join([*lines, f"took {time.monotonic() - started:.0f} s"]), file=sys.stderr)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": report.machine(options), "commands": commands,
                       "scenarios": {name: [{"subject": subject.name, "operation": operation,
                                             "rounds": rounds}
                                            for (subject, operation), rounds in results.items()]
                                     for name, results in all_results.items()}}, file, indent=1)
    return 1 if options.check and not (is_ok and lines) else 0


if __name__ == "__main__":
    sys.exit(main())
