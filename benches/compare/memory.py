#!/usr/bin/env python3
"""Memory per item: what a server's VmRSS grows by beside keys and values.

    memory.py                        2 million items, redis-server and memcached beside fulmar
    memory.py --items 200000 --check

For each kind of item a fresh server: VmRSS is read when it has started, all the time while it is
filled (the most per item from half full on: tables that have just grown are part of that), and when
it is full. Fulmar is then filled again with a limit that holds about so many items, and overwritten
by three times as many new ones. `--check` makes the exit code tell whether the limits hold.
"""

import argparse
import contextlib
import os
import shutil
import sys

import report
from scenarios import MEMCACHED, ONE, REDIS
from subjects import ROOT, fill, start_by_port

from harness import Server, rss_bytes  # noqa: E402 (subjects names its folder)
from resp import Connection  # noqa: E402

KEY_BYTES = 16
STEPS_COUNT = 40
TURNOVERS_COUNT = 3
DAY_SECONDS = 86_400
# (title, value bytes, TTL in seconds, most bytes per item that fulmar may add)
KINDS = (("32 B values", 32, 0, 36.0),
         ("32 B values, TTL", 32, DAY_SECONDS, 40.0),
         ("1 KiB values", 1024, 0, 0.06 * 1024))


def started(subject, memory_mib, options):
    """A server with this limit, and without snapshots."""
    if subject.kind == "fulmar":
        return Server.start(options.fulmar, shards=1, cpus="0", max_memory=f"{memory_mib}MiB")
    if subject.kind == "redis":
        return Server.start(shutil.which("redis-server"))
    return start_by_port(subject, shutil.which("memcached"), "0", memory_mib)


@contextlib.contextmanager
def running(subject, memory_mib, options):
    """It is killed at the end."""
    server = started(subject, memory_mib, options)
    try:
        yield server
    finally:
        server.kill()


def held(subject, server):
    """Items in it."""
    with Connection(server.port, timeout=30) as link:
        if subject.kind != "memcached":
            return link.call("DBSIZE")
        link.send(b"stats\r\n")
        while b"END\r\n" not in link.buffer:
            link.fill()
        return int(bytes(link.buffer).split(b"STAT curr_items ")[1].split()[0])


def overhead(subject, server, before, value_bytes):
    """Bytes per item beside key and value."""
    count = held(subject, server)
    return (rss_bytes(server.pid) - before) / count - KEY_BYTES - value_bytes


def filled(subject, kind, options):
    """Bytes per item when full, and the most from half full on."""
    _, value_bytes, ttl_seconds, _ = kind
    protocol = "memcached" if subject.kind == "memcached" else "resp"
    memory_mib = options.items * (value_bytes + 200) // 2**20 + 64
    with running(subject, memory_mib, options) as server:
        before, most, step = rss_bytes(server.pid), 0.0, options.items // STEPS_COUNT
        for number in range(STEPS_COUNT):
            fill(server.port, protocol, range(number * step, (number + 1) * step), value_bytes,
                 ttl_seconds)
            if number >= STEPS_COUNT // 2:
                most = max(most, overhead(subject, server, before, value_bytes))
        count = held(subject, server)
        if count != step * STEPS_COUNT:
            raise SystemExit(f"{subject.name} holds {count} of {step * STEPS_COUNT} items")
        return overhead(subject, server, before, value_bytes), most


def turned_over(kind, options):
    """Bytes per item in a fulmar that is full, after so many turnovers."""
    _, value_bytes, ttl_seconds, _ = kind
    memory_mib = options.items * (KEY_BYTES + value_bytes + 24) // 2**20
    with running(ONE, memory_mib, options) as server:
        before = rss_bytes(server.pid)
        fill(server.port, "resp", range((1 + TURNOVERS_COUNT) * options.items), value_bytes,
             ttl_seconds)
        return overhead(ONE, server, before, value_bytes)


def main():
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--fulmar", default=os.path.join(ROOT, "target/release/fulmar"))
    parser.add_argument("--check", action="store_true", help="fail if a limit does not hold")
    options = parser.parse_args()
    options.fulmar = os.path.abspath(options.fulmar)
    print(f"## Memory per item\n\n{options.items:,} items, {KEY_BYTES} B keys; bytes per item beside key and value.\n")
    print("| items | server | full | most while filling | after 3 turnovers at the limit |")
    print("|---|---|---|---|---|")
    is_ok = True
    for kind in KINDS:
        for subject in (ONE, REDIS, MEMCACHED):
            if subject is not ONE and not shutil.which(f"{subject.kind}-server") \
                    and not shutil.which(subject.kind):
                continue
            figures = [*filled(subject, kind, options)]
            if subject is ONE:
                figures.append(turned_over(kind, options))
                is_ok &= max(figures) <= kind[3]
            cells = [f"{figure:.1f}" for figure in figures] + ["-"] * (3 - len(figures))
            print(f"| {kind[0]} | {subject.name} | {' | '.join(cells)} |", flush=True)
    print("", *(f"- {line}" for line in report.machine(options)), sep="\n")
    print("\nlimits " + ("hold" if is_ok else "FAIL") + ": "
          + ", ".join(f"{title}: {limit:.1f}" for title, _, _, limit in KINDS))
    return 1 if options.check and not is_ok else 0


if __name__ == "__main__":
    sys.exit(main())
