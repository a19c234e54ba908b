"""A cluster under test: nodes as processes, started, killed, paused and asked from here.

`Cluster` starts fulmar's nodes, or, when the server under test is redis-server, a Redis Cluster of
as many primaries and their replicas (which is how the checks are developed and shown to fail).
Nodes listen on loopback, or each in a network namespace of its own (cluster_network.py). All die
with this process; call everything from the main thread, whose end would be theirs.

What the nodes print and report is read here and nowhere else: `Node.is_ready`, `Cluster.map`,
`Node.lag_ms`, `Node.provisional`.
"""

import binascii
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from harness import (STOP_SECONDS_MAX, CheckFailed, Server, require, size_bytes, state,
                     wait_until)
from resp import Closed, Connection

SLOTS = 16_384
RANGE_SLOTS = 8
READY_SECONDS_MAX = 25.0
# Below the kernel's range of ephemeral ports, so that no connection takes one meanwhile. Checks that
# run at the same time have different ones.
PLACE, PLACES = map(int, os.environ.get("FULMAR_CHECKS_PLACE", "0/1").split("/"))
PORTS = range(20_000 + 10 * PLACE, 32_000, 10 * PLACES)
# Of these, the ones that were given to a node.
GIVEN = set()
NAMESPACE_PORT = 7000
SECRET = "what-the-nodes-know"
REDIS_NODE_TIMEOUT_MS = 500
NO_ANSWER = (OSError, Closed, CheckFailed)


def slot_of(key):
    """The slot of a key: CRC16 of it or of its {hash tag}."""
    key = key.encode() if isinstance(key, str) else key
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % SLOTS


def free_block():
    """Ten ports of loopback, of which the first four are free, for UDP too; never the same twice.

    A node binds its own when it starts, so those given before may look free.
    """
    for first in random.sample([first for first in PORTS if first not in GIVEN], 200):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for port in range(first, first + 4):
                    probe = probes.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind(("127.0.0.1", port))
            GIVEN.add(first)
            return first
    raise CheckFailed("no free ports")


def fields(text):
    """`name:value` lines."""
    require(isinstance(text, bytes), f"no lines but {text!r}")
    lines = text.decode("latin-1").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


class Node:
    """One node: its addresses, its directory, and its process while it runs."""

    def __init__(self, cluster, index, first_port=None):
        self.cluster = cluster
        self.index = index
        network = cluster.network
        self.host = network.address(index) if network else "127.0.0.1"
        self.wrapper = network.wrapper(index) if network else []
        first_port = first_port or (NAMESPACE_PORT if network else free_block())
        self.port, self.replica_port, self.cluster_port, self.http_port = range(
            first_port, first_port + 4)
        self.directory = f"{cluster.directory}/node{index}"
        self.flags = {}
        self.server = None

    def __repr__(self):
        return f"node{self.index}({self.host}:{self.port})"

    @property
    def address(self):
        """Where clients reach it."""
        return (self.host, self.port)

    @property
    def join_address(self):
        """Where nodes reach it."""
        return f"{self.host}:{self.cluster_port}"

    @property
    def pid(self):
        """Of its process; `ip netns exec` becomes the server, so it is the server's."""
        return self.server.pid

    @property
    def is_running(self):
        """Whether there is a process, paused or not."""
        return self.server is not None and self.server.is_alive()

    @property
    def is_paused(self):
        """Whether it is stopped by SIGSTOP."""
        return self.is_running and state(self.pid) == "T"

    # ---- its process

    def command(self):
        """The command line."""
        cluster = self.cluster
        if cluster.is_redis:
            return [cluster.binary, "--bind", self.host, "--port", str(self.port),
                    "--cluster-enabled", "yes", "--cluster-port", str(self.cluster_port),
                    "--cluster-config-file", f"{self.directory}/nodes.conf", "--dir",
                    self.directory, "--cluster-node-timeout", str(REDIS_NODE_TIMEOUT_MS),
                    "--cluster-require-full-coverage", "no", "--save", "",
                    "--protected-mode", "no", "--repl-diskless-sync-delay", "0",
                    "--maxmemory", str(size_bytes(cluster.flags["max_memory"])),
                    "--maxmemory-policy", "allkeys-lru"]
        flags = {"bind": self.host, "announce": self.host, "port": self.port,
                 "http_port": self.http_port, "cluster_port": self.cluster_port,
                 "node_dir": self.directory, **cluster.flags, **self.flags}
        command = [cluster.binary, "serve", "--cluster"]
        for name, value in flags.items():
            if value is not None:
                command += ["--" + name.replace("_", "-"), str(value)]
        return command

    def start(self, wait=True):
        """Starts its process; by default until clients can connect."""
        require(not self.is_running, f"{self} runs already")
        os.makedirs(self.directory, exist_ok=True)
        if self.server is not None:
            self.server.kill()
        self.server = Server.spawn([*self.wrapper, *self.command()],
                                   is_redis=self.cluster.is_redis)
        if wait:
            wait_until(self.listens, 15, f"{self} listens")

    def listens(self):
        """Whether clients can connect; fails the check if it has ended."""
        require(self.is_running, f"{self} ended with {self.server.process.returncode}:\n"
                                 f"{self.server.log_tail()}")
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def signal(self, number):
        """Sends a signal to its process."""
        self.server.signal(number)

    def kill(self):
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self.server.process.wait(10)

    def pause(self):
        """SIGSTOP; returns when all its threads stand still."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: state(self.pid) == "T", 5, f"{self} stands still", 0.001)

    def resume(self):
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self):
        """SIGTERM; it must end in time, with exit code 0."""
        self.signal(signal.SIGTERM)
        code = self.server.wait(STOP_SECONDS_MAX)
        require(code == 0, f"{self}: exit code {code} after SIGTERM:\n{self.server.log_tail()}")

    # ---- what it says

    def connect(self, timeout=10.0):
        """A connection to it."""
        return Connection(self.port, timeout, self.host)

    def call(self, *args, timeout=5.0):
        """One command on a connection of its own."""
        with self.connect(timeout) as link:
            return link.call(*args)

    def info(self, section):
        """The fields of a section of INFO."""
        return fields(self.call("INFO", section))

    def cluster_info(self):
        """The fields of CLUSTER INFO."""
        return fields(self.call("CLUSTER", "INFO"))

    def http(self, path, data=None, timeout=5.0):
        """The status and body of a request."""
        url = f"http://{self.host}:{self.http_port}{path}"
        try:
            with urllib.request.urlopen(url, data, timeout) as page:
                return page.status, page.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metrics(self):
        """The metrics page: name with labels -> value."""
        lines = self.http("/-/metrics")[1].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
        return {name: float(value) for name, value in pairs}

    def is_ready(self):
        """Whether it serves its part and its copies are synced."""
        return self.lacks() is None

    def lacks(self):
        """Why it is not ready; None when it is."""
        try:
            info = self.cluster_info()
            for name, want in (("cluster_state", "ok"), ("cluster_slots_ok", str(SLOTS))):
                if info.get(name) != want:
                    return f"{self}: {name} is {info.get(name)}"
            if not self.cluster.is_redis:
                status, text = self.http("/-/readyz")
                return None if status == 200 else f"{self}: readyz {status} {text[:200]}"
            info = self.info("replication")
            if info["role"] == "slave" and (info["master_link_status"] != "up"
                                            or int(info["master_sync_in_progress"])):
                return f"{self} is not synced"
            return None
        except NO_ANSWER as error:
            return f"{self}: {error!r:.300}"

    def lag_ms(self):
        """What a failover of it now would lose, as INFO replication publishes it.

        The worst replica of `slave0:ip=...,state=online,offset=...,lag=...`: `lag_ms` where it is
        given, else Redis's `lag` in seconds, of which up to one more may have passed.
        """
        lags = [0.0]
        for name, value in self.info("replication").items():
            if name.startswith(("slave", "replica")) and "=" in value:
                parts = dict(part.split("=", 1) for part in value.split(","))
                require("lag_ms" in parts or self.cluster.is_redis, f"{name}:{value} has no lag_ms")
                lags.append(float(parts["lag_ms"]) if "lag_ms" in parts
                            else 1000.0 * (int(parts["lag"]) + 1))
        return max(lags)

    def provisional(self):
        """Whether it says that it acts without a quorum."""
        info = {**self.info("cluster"), **self.cluster_info()}
        return any("provisional" in name and value.strip() not in ("0", "no")
                   for name, value in info.items())


class Cluster:
    """Nodes that know each other; use it as a context manager.

    `count` is of nodes that own ranges. Redis has as many replica processes besides: `nodes` holds
    all, `owners()` those that own something now. `flags` are fulmar's.
    """

    def __init__(self, context, count, network=None, replicas=1, start=True, **flags):
        self.context = context
        self.binary = context.server
        self.is_redis = context.is_redis
        self.network = network
        self.count = count
        self.replicas = min(replicas, count - 1)
        self.started = start
        self.directory = tempfile.mkdtemp(prefix="fulmar-cluster-")
        self.nodes = []
        configuration = context.configuration
        self.flags = {"max_memory": "128MiB", "shards": configuration.shards,
                      "replicas": replicas, "rebuild_delay": 1, **flags}
        if configuration.shards > 1:
            self.flags.setdefault("dispatch", configuration.dispatch)
        self.flags.setdefault("cluster_secret_file", self.file("secret", SECRET))

    def file(self, name, text):
        """A file of the cluster's directory."""
        path = f"{self.directory}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def __enter__(self):
        try:
            total = self.count * (1 + self.replicas if self.is_redis else 1)
            for _ in range(total):
                self.make_node()
            names = ",".join(node.join_address for node in self.nodes)
            self.flags.setdefault("join", names)
            self.flags.setdefault("bootstrap_expect", self.count)
            if self.started:
                self.start()
        except BaseException:
            self.__exit__(CheckFailed, None, None)
            raise
        return self

    def make_node(self):
        """A node that is not started yet."""
        if self.network:
            self.network.add()
        self.nodes.append(Node(self, len(self.nodes)))
        return self.nodes[-1]

    def start(self):
        """Starts all nodes and waits until they are one cluster."""
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            wait_until(node.listens, 15, f"{node} listens")
        if self.is_redis:
            self._create_redis_cluster()
        self.wait_ready()
        if not self.is_redis:
            # Copies are complete before the last primaries are where they should be.
            self.wait_still(self.nodes[0], 0.3)

    def _create_redis_cluster(self):
        places = [f"{node.host}:{node.port}" for node in self.nodes]
        done = subprocess.run(["redis-cli", "--cluster", "create", *places, "--cluster-replicas",
                               str(self.replicas), "--cluster-yes"],
                              capture_output=True, timeout=60, check=False)
        require(done.returncode == 0, f"redis-cli --cluster create: {done.stdout.decode()}")

    def __exit__(self, kind, *_):
        running = [node for node in self.nodes if node.is_running]
        try:
            if kind is None:
                for node in running:
                    node.resume()
                    node.signal(signal.SIGTERM)
                for node in running:
                    code = node.server.wait(STOP_SECONDS_MAX)
                    require(code == 0, f"{node}: exit code {code} after SIGTERM:\n"
                                       f"{node.server.log_tail()}")
            elif not self.is_redis:
                for node in self.nodes:
                    if node.server:
                        print(f"{node} ends:\n{node.server.log_tail(12)}", flush=True)
        finally:
            for node in self.nodes:
                if node.server:
                    node.server.kill()
            shutil.rmtree(self.directory, ignore_errors=True)

    # ---- who owns what

    def live(self):
        """Nodes that run and are not paused."""
        return [node for node in self.nodes if node.is_running and not node.is_paused]

    def node_at(self, host, port):
        """The node with that address, of either endpoint."""
        for node in self.nodes:
            if node.host == host and port in (node.port, node.replica_port):
                return node
        raise CheckFailed(f"{host}:{port} is no node of this cluster")

    def map(self, ask=None):
        """What CLUSTER SLOTS of a node says: [(first slot, last slot, primary, [replicas])]."""
        entries = (ask or self.live()[0]).call("CLUSTER", "SLOTS")
        require(isinstance(entries, list), f"CLUSTER SLOTS: {entries}")
        return [(first, last, *self._places(places)) for first, last, *places in entries]

    def _places(self, places):
        nodes = [self.node_at(place[0].decode(), place[1]) for place in places]
        return nodes[0], nodes[1:]

    def slots(self, ask=None):
        """The primary of each slot, None for those without."""
        table = [None] * SLOTS
        for first, last, primary, _ in self.map(ask):
            table[first:last + 1] = [primary] * (last + 1 - first)
        return table

    def owners(self, ask=None):
        """The nodes that own something."""
        return sorted(set(self.slots(ask)) - {None}, key=lambda node: node.index)

    def owner_of(self, key, ask=None):
        """The primary of a key's slot."""
        return self.slots(ask)[slot_of(key)]

    def lacks(self, owners=None, copies=None, nodes=None):
        """Why not all live nodes (or `nodes`) are ready, say the same and lack no copy; or None.

        `owners` and `copies` of each slot: as many as there can be, unless given.
        """
        live = nodes or self.live()
        for node in live:
            if reason := node.lacks():
                return reason
        try:
            maps = [self.map(node) for node in live]
        except NO_ANSWER as error:
            return f"CLUSTER SLOTS: {error!r:.300}"
        if len({str(_canonical(entries)) for entries in maps}) != 1:
            return "the nodes' maps differ"
        covered = sum(last + 1 - first for first, last, *_ in maps[0])
        if covered != SLOTS:
            return f"{covered} slots are served"
        owners = min(self.count, len(live)) if owners is None else owners
        copies = min(self.replicas if copies is None else copies, len(live) - 1)
        primaries = {primary for _, _, primary, _ in maps[0]}
        if len(primaries) != owners:
            return f"{primaries} own everything, not {owners} nodes"
        bare = [entry for entry in maps[0] if len(set(entry[3]) - {entry[2]}) < copies]
        return f"{len(bare)} entries of the map lack a copy, as {bare[0]}" if bare else None

    def wait_ready(self, seconds=READY_SECONDS_MAX, **how):
        """Waits until nothing is lacking; returns the seconds that it took."""
        started = time.monotonic()
        while reason := self.lacks(**how):
            require(time.monotonic() < started + seconds, f"after {seconds} s: {reason}")
            time.sleep(0.1)
        return time.monotonic() - started

    def wait_still(self, node, seconds=0.5):
        """Waits until nothing has been decided for so long: no range moves any more."""
        end = time.monotonic() + READY_SECONDS_MAX
        epoch, since = None, time.monotonic()
        while time.monotonic() < since + seconds:
            require(time.monotonic() < end, "the epoch does not stand still")
            now = node.cluster_info()["cluster_current_epoch"]
            if now != epoch:
                epoch, since = now, time.monotonic()
            time.sleep(0.05)

    # ---- the operator's command

    def operator(self, *args, node=None, timeout=30, exit_code=0):
        """Output of `fulmar cluster ... --node HOST:PORT`."""
        node = node or self.live()[0]
        command = [self.binary, "cluster", *map(str, args), "--node", f"{node.host}:{node.port}"]
        done = subprocess.run(command, capture_output=True, timeout=timeout, text=True,
                              stdin=subprocess.DEVNULL, check=False)
        text = done.stdout + done.stderr
        require(done.returncode == exit_code,
                f"{' '.join(command)}: exit code {done.returncode}\n{text[-2000:]}")
        return text

    def verify(self):
        """Fails unless the copies' digests are equal (`fulmar cluster verify`)."""
        if not self.is_redis:
            return self.operator("verify")
        for _, _, primary, replicas in self.map():
            sizes = [primary.call("DBSIZE"), *(node.call("DBSIZE") for node in replicas)]
            require(len(set(sizes)) == 1, f"{primary} and its replicas hold {sizes} keys")
        return ""


def _canonical(entries):
    """Entries of a map, neighbours of the same nodes joined, replicas in no order."""
    joined = []
    for first, last, primary, replicas in sorted(entries, key=lambda entry: entry[0]):
        nodes = (primary.index, sorted(node.index for node in replicas))
        if joined and joined[-1][2:] == nodes and joined[-1][1] == first - 1:
            joined[-1] = (joined[-1][0], last, *nodes)
        else:
            joined.append((first, last, *nodes))
    return joined
