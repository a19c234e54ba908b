"""Starting and filling the servers that are compared, and reading what they use.

Starting, stopping and /proc are shared with the black-box checks (cli/tests/clients/harness.py).
"""

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "cli/tests/clients"))

from harness import Server, cpu_ns, free_port  # noqa: E402
from scenarios import KEYS_COUNT, VALUE_BYTES  # noqa: E402

MEMORY = "1GiB"
BATCH_COUNT = 1000
START_SECONDS_MAX = 10


class Running:
    """A started subject: `port`, `pid`, and the command line for the report."""

    def __init__(self, subject, server):
        self.subject = subject
        self.server = server
        self.port = server.port
        self.pid = server.pid
        self.command = shlex.join(server.command)

    def cpu_ns(self):
        """CPU time of the process, user and system."""
        return cpu_ns(self.pid)

    def counters(self):
        """fulmar's counts of doorbells and borrows; {} for others."""
        if self.server.http_port is None:
            return {}
        address = f"http://127.0.0.1:{self.server.http_port}/-/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
        totals = {}
        for name, value in re.findall(r"(?m)^(\w*(?:doorbell|borrow)\w*)(?:\{.*?\})? (\S+)", text):
            totals[name] = totals.get(name, 0.0) + float(value)
        return totals


def start(subject, cpus, options):
    """Starts a subject on the given CPUs and stores all keys in it; None if it is not here."""
    binary = {"redis": shutil.which("redis-server"), "memcached": shutil.which("memcached"),
              "fulmar": options.fulmar, "echo": options.echo}[subject.kind]
    if not binary or (subject.kind == "fulmar" and not os.access(binary, os.X_OK)):
        print(f"  {subject.name}: no binary, left out", file=sys.stderr)
        return None
    if subject.kind == "fulmar":
        first = ",".join(cpus.split(",")[:subject.shards])
        chosen = {"shards": subject.shards, "cpus": first, "max_memory": MEMORY}
        if subject.shards > 1:
            chosen["dispatch"] = subject.dispatch
        server = Server.start(binary, **chosen)
    elif subject.kind == "redis":
        server = Server.start(binary, wrapper=("taskset", "-c", cpus))
    else:
        server = start_by_port(subject, binary, cpus)
    if subject.kind != "echo":
        fill(server.port, "memcached" if subject.kind == "memcached" else "resp")
    return Running(subject, server)


def start_by_port(subject, binary, cpus, memory_mib=1024):
    """Starts a server that takes a port and says nothing."""
    port = free_port()
    if subject.kind == "memcached":
        command = ["taskset", "-c", cpus, binary, "-u", "root", "-l", "127.0.0.1", "-p", str(port),
                   "-U", "0", "-t", str(len(cpus.split(","))), "-m", str(memory_mib), "-c", "2000"]
    else:
        command = binary.format(port=port, cpu=cpus.split(",")[0]).split()
    server = Server.spawn(command)
    server.port = port
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        if time.monotonic() > deadline or not server.is_alive():
            server.kill()
            raise SystemExit(f"{subject.name} does not listen: {' '.join(command)}")
        time.sleep(0.01)


def fill(port, protocol, numbers=range(KEYS_COUNT), value_bytes=VALUE_BYTES, ttl_seconds=0):
    """Stores the keys with these numbers, 16 bytes each, as the clients name them."""
    value = b"x" * value_bytes
    memcached = b"set %%b 0 %d %d\r\n%b\r\n" % (ttl_seconds, len(value), value)
    expiry = b"$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_seconds)), ttl_seconds)
    resp = b"*%d\r\n$3\r\nSET\r\n$16\r\n%%b\r\n$%d\r\n%b\r\n%b" % (
        5 if ttl_seconds else 3, len(value), value, expiry if ttl_seconds else b"")
    form, stored = (memcached, b"STORED\r\n") if protocol == "memcached" else (resp, b"+OK\r\n")
    with socket.create_connection(("127.0.0.1", port), 30) as link:
        for start_at in range(0, len(numbers), BATCH_COUNT):
            some = numbers[start_at:start_at + BATCH_COUNT]
            link.sendall(b"".join([form % (b"key:%012d" % i) for i in some]))
            wanted, got = stored * len(some), b""
            while len(got) < len(wanted):
                piece = link.recv(1 << 16)
                if not piece:
                    raise SystemExit("the server closed while it was filled")
                got += piece
            if got != wanted:
                raise SystemExit(f"a SET failed: {got[:100]!r}")


@contextlib.contextmanager
def all_running(subjects, cpus, options):
    """All subjects of a scenario at once; those not measured are idle."""
    running = []
    try:
        for subject in subjects:
            started = start(subject, cpus, options)
            if started:
                running.append(started)
        yield running
    finally:
        for one in running:
            one.server.kill()


def version(kind, binary):
    """What a server calls itself."""
    if not binary or kind == "echo":
        return None
    flag = "--version"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([binary, flag], capture_output=True, text=True, timeout=5)
        lines = (done.stdout or done.stderr).strip().splitlines()
        return lines[0] if lines else None
    return None
