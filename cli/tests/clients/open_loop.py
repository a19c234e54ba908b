"""What loadgen's open loop sees: a stopped server, and a million keys that end at once."""

import json
import os
import signal
import subprocess
import sys
import time

from checks import check, still_serves
from harness import Skip, require
from resp import Connection
from ttl import load_in_time

RATE = 10_000
KEYS_COUNT = 10_000
STOP_SECONDS = 0.5
# What counts is the long form, on a machine of its own: the short one shares it with whatever builds.
SLOWER_NS_MAX = 2_000_000
SLOWER_NS_MAX_SHARED = 6_000_000


class OpenLoop:
    """A running loadgen: `RATE` requests a second at a server for some seconds."""

    def __init__(self, context, server, seconds):
        binary = os.path.join(os.path.dirname(context.server), "loadgen")
        if not os.access(binary, os.X_OK):
            raise Skip(f"{binary} is not there")
        self.requests = int(RATE * seconds)
        self.report = os.path.join(server.directory, "loadgen.json")
        self.process = subprocess.Popen(
            [binary, "--target", f"127.0.0.1:{server.port}", "--rate", str(RATE),
             "--duration", str(seconds), "--keys", str(KEYS_COUNT), "--prefill", "--verify",
             "--ratio", "1:9", "--seed", str(context.seed), "--json", self.report],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def latencies(self, seconds):
        """Waits for its end; latencies in ns of all requests. Fails unless it kept its rate."""
        try:
            printed, _ = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        require(self.process.returncode == 0, f"loadgen failed:\n{printed}")
        with open(self.report) as file:
            figures = json.load(file)
        total = next(row for row in figures["operations"] if row["name"] == "all")
        require(total["count"] == self.requests and total["errors"] == 0,
                f"{total['count']} of {self.requests} answered, {total['errors']} errors")
        return total["latency_ns"]


def shown(latency):
    """Percentiles in ms, for a note."""
    return "/".join(f"{latency[name] / 1e6:.2f}" for name in ("p50", "p99", "p99_9", "max"))


@check(timeout=60, shards=(1, 2), dispatch=("borrow",), only="fulmar", alone=True)
def a_stop_is_seen_as_long_as_it_was(context):
    """SIGSTOP for 500 ms: the requests due meanwhile are late by up to that, and none is lost."""
    with context.serve() as server:
        load = OpenLoop(context, server, 4.0)
        time.sleep(2.0)
        server.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        time.sleep(STOP_SECONDS)
        server.signal(signal.SIGCONT)
        stopped = time.monotonic() - stopped
        latency = load.latencies(20)
        context.note(f"stopped for {stopped * 1000:.0f} ms: p50/p99/p99.9/max {shown(latency)} ms")
        # An eighth of all requests were due meanwhile.
        for name in ("p99", "p99_9", "max"):
            late = latency[name] / 1e9 / stopped
            require(0.75 < late < 1.25, f"{name} is {late:.2f} of the stop")
        require(latency["p50"] < 20e6, "the server did not catch up")
        still_serves(server.port)


@check(timeout=240, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def a_million_keys_end_unnoticed(context):
    """Requests are not slower while a million keys expire, and those are gone within 2 s."""
    with context.serve(max_memory="512MiB") as server, Connection(server.port) as link:
        allowed_ns = SLOWER_NS_MAX if context.long else SLOWER_NS_MAX_SHARED
        # Another process on these CPUs can spoil a round, but hardly each.
        for number in range(3):
            slower_ns = slower_while_expiring(context, server, link)
            if slower_ns < allowed_ns and not (context.long and number < 2):
                return
        require(slower_ns < allowed_ns,
                f"p99.9 is {slower_ns / 1e6:.2f} ms longer while expiring")


def slower_while_expiring(context, server, link):
    """By how much the 99.9th percentile rises, in ns."""
    seconds = 4.0
    quiet = OpenLoop(context, server, seconds).latencies(30)
    link.ok("FLUSHALL")
    due = load_in_time(server, link, 1_000_000)
    time.sleep(max(0.0, due - 0.5 - time.monotonic()))
    load = OpenLoop(context, server, seconds)
    time.sleep(max(0.0, due + 3.0 - time.monotonic()))
    size = link.call("DBSIZE")
    busy = load.latencies(30)
    require(size <= KEYS_COUNT, f"{size} keys left 2 s after the end of the last")
    context.note(f"p50/p99/p99.9/max ms: {shown(quiet)} without, {shown(busy)} while expiring; "
                 f"over 1 ms: {quiet['over_1ms']} and {busy['over_1ms']}")
    return busy["p99_9"] - quiet["p99_9"]


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="open_loop"))
