"""What replication and forwarding cost: server CPU per operation, beside a single node.

    cluster_price.py target/release/fulmar [--rounds 7] [--value-bytes 32]

Subjects, one shard each, all started once and measured in turn, so that what else the machine does
meets all alike:

    single      a node without a cluster
    own         one of two nodes, no replicas, keys that it has: a client that follows MOVED
    forwarded   the same nodes, keys that the other has: any other client
    replicated  one of two nodes, one replica, keys that it has

CPU is utime + stime of the servers' processes out of /proc, by node: the one that the client talks
to, and the other. What an idle node uses in the same time is subtracted and printed.
"""

import argparse
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import closed_loop

TICKS = os.sysconf("SC_CLK_TCK")
KEYS = 20000
CONNECTIONS = 50
REQUESTS = {1: 40_000, 16: 320_000}
RANGES = 2048


def crc16(data):
    """CRC-16/XMODEM, by which keys have slots."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


class Server:
    """One node."""

    def __init__(self, binary, directory, port, cpu, *flags):
        self.port = port
        command = [binary, "serve", "--port", str(port), "--http-port", "0", "--shards", "1",
                   "--cpus", str(cpu), "--max-memory", "256MiB", *flags]
        log = open(directory / f"{port}.log", "wb")
        self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def cpu_seconds(self):
        """utime + stime so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[-1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def ask(self, *words):
        """One command's reply, raw; for replies that come in one piece."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as link:
            link.sendall(b"*%d\r\n" % len(words) + b"".join(
                b"$%d\r\n%b\r\n" % (len(word), word) for word in map(str.encode, words)))
            link.settimeout(2)
            data = link.recv(1 << 20)
            length = int(data[1:data.index(b"\r")]) if data[:1] == b"$" else 0
            while len(data) < length:
                data += link.recv(1 << 20)
            return data

    def slots(self):
        """The slots that this node has, by CLUSTER NODES."""
        slots = set()
        for line in self.ask("CLUSTER", "NODES").decode().split("\n"):
            if "myself" not in line:
                continue
            for run in line.split()[8:]:
                first, _, last = run.partition("-")
                slots.update(range(int(first), int(last or first) + 1))
        return slots


def pair(binary, directory, port, replicas):
    """Two nodes of a cluster that have shared out the ranges."""
    first = Server(binary, directory, port, 0, "--cluster", "--replicas", str(replicas),
                   "--node-dir", str(directory / f"n{port}"))
    second = Server(binary, directory, port + 2, 1, "--cluster", "--replicas", str(replicas),
                    "--join", f"127.0.0.1:{port + 10000}",
                    "--node-dir", str(directory / f"n{port + 2}"))
    until = time.monotonic() + 60
    half = RANGES * 8 // 2
    while len(first.slots()) != half or len(second.slots()) != half:
        if time.monotonic() > until:
            raise SystemExit("the nodes do not share out the ranges")
        time.sleep(0.5)
    time.sleep(5)
    return first, second


def keys_of(slots):
    """Keys of these slots, equally long."""
    keys, number = [], 0
    while len(keys) < KEYS:
        key = b"key:%012d" % number
        number += 1
        if slots is None or crc16(key) % 16384 in slots:
            keys.append(key)
    return keys


def load(port, operation, requests, pipeline, value_bytes, keys):
    """Runs the client on the second CPU."""
    return closed_loop.main(port, "redis", operation, requests, CONNECTIONS, pipeline, len(keys),
                            value_bytes, keys.__getitem__)


def main():
    """Measures and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--value-bytes", type=int, default=32)
    parser.add_argument("--port", type=int, default=7600)
    options = parser.parse_args()
    binary = os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        servers = []
        try:
            single = Server(binary, directory, options.port, 0)
            servers.append(single)
            plain = pair(binary, directory, options.port + 10, 0)
            servers += plain
            doubled = pair(binary, directory, options.port + 20, 1)
            servers += doubled
            own, other = keys_of(plain[0].slots()), keys_of(plain[1].slots())
            subjects = {"single": ((single,), keys_of(None)), "own": (plain, own),
                        "forwarded": (plain, other),
                        "replicated": (doubled, keys_of(doubled[0].slots()))}
            measure(subjects, options)
        finally:
            for server in servers:
                server.process.kill()
            for server in servers:
                server.process.wait()


def measure(subjects, options):
    """The rounds."""
    os.sched_setaffinity(0, {1})
    for nodes, keys in subjects.values():
        load(nodes[0].port, "set", len(keys) * 4, 16, options.value_bytes, keys)
        for start in range(0, len(keys), 500):
            nodes[0].ask("MSET", *sum(([key.decode(), "x" * options.value_bytes]
                                       for key in keys[start:start + 500]), []))
    time.sleep(3)
    every = {id(node): node for nodes, _ in subjects.values() for node in nodes}.values()
    before, seconds = {node.port: node.cpu_seconds() for node in every}, 10
    time.sleep(seconds)
    idle = {node.port: (node.cpu_seconds() - before[node.port]) / seconds for node in every}
    print("idle, CPU ms per second:",
          " ".join(f"{port} {share * 1000:.1f}" for port, share in idle.items()), flush=True)
    found = {}
    for round_number in range(options.rounds):
        for operation in ("get", "set"):
            for pipeline, requests in REQUESTS.items():
                for name, (nodes, keys) in subjects.items():
                    if name == "replicated" and operation == "get":
                        continue
                    before = [node.cpu_seconds() for node in nodes]
                    started = time.monotonic()
                    figures = load(nodes[0].port, operation, requests, pipeline,
                                   options.value_bytes, keys)
                    time.sleep(0.3)
                    elapsed = time.monotonic() - started
                    used = [(node.cpu_seconds() - cpu - idle[node.port] * elapsed) / requests * 1e6
                            for node, cpu in zip(nodes, before)]
                    found.setdefault((operation, pipeline, name), []).append(
                        (*used, figures["p50_ms"], figures["p99_ms"]))
        print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print(f"{'':22} {'node':>8} {'other':>8} {'sum':>8} {'of single':>10} {'p50 ms':>8}")
    for (operation, pipeline, name), rows in found.items():
        node = statistics.median(row[0] for row in rows)
        other = statistics.median(row[1] for row in rows) if len(rows[0]) == 4 else 0
        single = statistics.median(row[0] for row in found[operation, pipeline, "single"])
        p50 = statistics.median(row[-2] for row in rows)
        print(f"{operation} P={pipeline:<3} {name:12} {node:8.2f} {other:8.2f} {node + other:8.2f}"
              f" {node / single:9.2f}x {p50:8.2f}")


if __name__ == "__main__":
    main()
