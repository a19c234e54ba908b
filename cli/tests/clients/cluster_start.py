"""How a cluster begins, and what must not become one; wrong flags and directories.

Fulmar only. What a node says when it refuses to start is one clear line.
"""

import os
import sys
import time

from bad_start import refuses
from checks import check
from cluster import Cluster, free_block
from cluster_data import require_all, write_all
from harness import require, wait_until

# How long a thing that must not happen is given to happen.
PATIENCE_SECONDS = 2.0


def names_of(node):
    """The members that a node knows, by their addresses in CLUSTER NODES."""
    text = node.call("CLUSTER", "NODES").decode()
    return {line.split()[1].split("@")[0] for line in text.splitlines() if "fail" not in
            line.split()[2]}


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def three_commands(context):
    """Three nodes from three commands: no script, the same --join everywhere, any order."""
    with Cluster(context, 3, start=False) as cluster:
        first, second, third = cluster.nodes
        third.start()
        second.start()
        time.sleep(PATIENCE_SECONDS)
        for node in (second, third):
            require(not node.is_ready(), f"{node} serves before all have come")
        first.start()
        cluster.wait_ready(15)
        keys = [b"key:%d" % i for i in range(500)]
        write_all(cluster, keys, wait=1)
        for node in cluster.nodes:
            require_all(cluster, keys, node=node, what=f"by {node}")
        require("3" in cluster.operator("status"), "the status lacks the number of nodes")
        context.note(f"a node directory holds {sorted(os.listdir(first.directory))}")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def founded_once(context):
    """The founder, back without its directory, joins what it founded and founds nothing."""
    with Cluster(context, 3) as cluster:
        keys = [b"key:%d" % i for i in range(500)]
        write_all(cluster, keys, wait=1)
        founder = cluster.nodes[0]
        name = founder.call("CLUSTER", "MYID")
        founder.kill()
        wait_until(lambda: founder not in cluster.owners(cluster.nodes[1]), 10, "a failover")
        os.rename(founder.directory, founder.directory + ".lost")
        founder.start()
        cluster.wait_ready()
        require(founder.call("CLUSTER", "MYID") != name, "a lost directory is a new id")
        require(len(cluster.owners(founder)) == 3, "it is alone")
        require_all(cluster, keys, what="after the founder's return")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def two_clusters_stay_two(context):
    """A node of one cluster that is told to join another keeps apart; data is not mixed."""
    with Cluster(context, 2) as one, Cluster(context, 2) as other:
        one.nodes[0].call("SET", "whose", "one")
        other.nodes[0].call("SET", "whose", "other")
        stranger = one.nodes[1]
        stranger.terminate()
        stranger.flags["join"] = ",".join(node.join_address for node in [*other.nodes, *one.nodes])
        stranger.start()
        time.sleep(PATIENCE_SECONDS)
        for cluster, value in ((one, b"one"), (other, b"other")):
            cluster.wait_ready()
            for node in cluster.nodes:
                require(node.call("GET", "whose") == value, f"{node} mixes the clusters up")
        require(not names_of(one.nodes[0]) & names_of(other.nodes[0]), "they know each other")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def another_secret(context):
    """Who does not know the secret does not get in, with a wrong one or with none."""
    with Cluster(context, 2) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        for secret in (cluster.file("wrong", "guessed"), None):
            stranger = cluster.make_node()
            stranger.flags.update(cluster_secret_file=secret, bootstrap_expect=None)
            stranger.start(wait=False)
            end = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < end and stranger.is_running:
                require(not stranger.is_ready(), "it is ready")
                time.sleep(0.1)
            place = f"{stranger.host}:{stranger.port}"
            for node in cluster.nodes[:2]:
                require(place not in names_of(node), f"{node} takes it for a member")
                require(node.call("GET", "k") == b"v", f"{node} does not serve")
            require("secret" in stranger.server.log_tail(200).lower(),
                    f"nothing about the secret:\n{stranger.server.log_tail()}")
            if stranger.is_running:
                stranger.kill()
        cluster.wait_ready(owners=2)


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def a_directory_in_use(context):
    """Two processes never share a node's directory; the first is not disturbed."""
    with Cluster(context, 2) as cluster:
        twin = cluster.make_node()
        twin.directory = cluster.nodes[0].directory
        refuses(context, twin.directory.lower(), command=twin.command())
        cluster.wait_ready(owners=2)
        # Free again as soon as the process is gone, however it went.
        cluster.nodes[0].kill()
        cluster.nodes[0].start()
        cluster.wait_ready()


@check(timeout=90, shards=(2,), dispatch=("borrow",), only="fulmar")
def two_nodes_survive_either(context):
    """Two nodes: the loss of either is answered within 2 s, and nothing replicated is lost."""
    with Cluster(context, 2) as cluster:
        keys = [b"key:%d" % i for i in range(500)]
        write_all(cluster, keys, wait=1)
        for lost in cluster.nodes:
            left = next(node for node in cluster.nodes if node is not lost)
            lost.kill()
            started = time.monotonic()
            wait_until(lambda node=left: cluster.owners(node) == [node], 4,
                       f"{left} owns everything", 0.02)
            took = time.monotonic() - started
            context.note(f"{lost} lost: {left} owns everything after {took:.2f} s")
            require(took <= 2.0, f"{left} owns everything only after {took:.2f} s")
            require_all(cluster, keys, node=left, what=f"{lost} lost")
            require(left.call("SET", "alone", "v") == b"OK", "a write to the one that is left")
            lost.start()
            cluster.wait_ready()
            require_all(cluster, keys, node=lost, what=f"{lost} back")
        cluster.verify()


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def all_restart(context):
    """All end and start again with their directories: the same cluster, empty, soon."""
    with Cluster(context, 3) as cluster:
        names = {node.call("CLUSTER", "MYID") for node in cluster.nodes}
        before = cluster.slots()
        cluster.nodes[0].call("SET", "k", "v")
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start(wait=False)
        took = cluster.wait_ready(15)
        require({node.call("CLUSTER", "MYID") for node in cluster.nodes} == names, "other ids")
        require(cluster.slots() == before, "the ranges are elsewhere")
        require(cluster.nodes[1].call("SET", "k", "w") == b"OK", "it does not serve")
        context.note(f"all ready {took:.1f} s after all were killed")


BAD_FLAGS = [
    ("--cluster", ["--weight", "2"]),
    ("--weight", ["--cluster", "--weight", "0"]),
    ("--replicas", ["--cluster", "--replicas", "4"]),
    ("--bootstrap-expect", ["--cluster", "--bootstrap-expect", "3"]),
    ("--join", ["--cluster", "--join", "nohost"]),
    ("--join", ["--cluster", "--join", "localhost:99999"]),
    ("--announce", ["--cluster", "--announce", "a b"]),
    ("--announce", ["--cluster", "--bind", "0.0.0.0"]),
    ("--zone", ["--cluster", "--zone", "z" * 100]),
    ("/nonexistent/secret", ["--cluster", "--cluster-secret-file", "/nonexistent/secret"]),
    ("/proc/nowhere", ["--cluster", "--node-dir", "/proc/nowhere"]),
    ("/dev/null", ["--cluster", "--node-dir", "/dev/null"]),
]


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def bad_flags(context):
    """Flags that make no sense, and places that cannot be used, end in a line that names them."""
    for word, flags in BAD_FLAGS:
        first = free_block()
        refuses(context, word, command=[
            context.server, "serve", "--port", str(first), "--http-port", str(first + 3),
            "--max-memory", "64MiB", *flags])


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def taken_ports(context):
    """A port that somebody else has, the cluster's or the replica reads': the line names it."""
    with Cluster(context, 2) as cluster:
        for name in ("cluster_port", "replica_port"):
            node, other = cluster.make_node(), cluster.nodes[0]
            node.flags["bootstrap_expect"] = None
            port = other.cluster_port if name == "cluster_port" else other.port
            if name == "cluster_port":
                node.cluster_port = port
            else:
                node.port = port - 1
            refuses(context, str(port), command=node.command())
        cluster.wait_ready(owners=2)


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_start"))
