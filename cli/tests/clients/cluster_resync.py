"""A node that comes back empty is filled while the others serve; all restart one after another.

The fill must not be felt: the p99.9 of the primaries at most doubles, and no node uses more memory
than it may. A rolling restart that waits for `/-/readyz` loses nothing: the hit ratio stays at 95 %
of before or above, and a cluster client sees no error but redirections.
"""

import os
import random
import sys
import threading
import time

from checks import check
from cluster import SLOTS, Cluster
from cluster_data import require_all, write_all
from cluster_load import Load
from harness import START_LINES, UNITS, require, rss_bytes, size_bytes, wait_until

VALUE_BYTES = 8000
HIT_RATIO_MIN = 0.95
# The short form runs on shared cores, where a pause of the scheduler is longer than what is
# measured.
LATENCY_SLACK_SECONDS = 0.25


class Memory:
    """Watches VmRSS of all nodes, in a thread, against --max-memory and the printed base."""

    def __init__(self, cluster):
        self.cluster, self.most, self.stopped = cluster, {}, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self.stopped.wait(0.1):
            for node in self.cluster.nodes:
                try:
                    used = rss_bytes(node.pid)
                except (AssertionError, OSError):
                    continue
                self.most[node.index] = max(used, self.most.get(node.index, 0))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopped.set()
        self.thread.join(5)
        if kind is not None or self.cluster.is_redis:
            return
        limit = size_bytes(self.cluster.flags["max_memory"])
        for index, used in self.most.items():
            server = self.cluster.nodes[index].server
            text = server.output("stdout") + server.output("stderr")
            found = START_LINES["base"].search(text)
            require(found, f"node{index} prints no base")
            allowed = limit + int(float(found[1]) * UNITS[found[2].upper()])
            require(used <= allowed, f"node{index} uses {used >> 20} MiB of {allowed >> 20}")


@check(timeout=120, shards=(1,), alone=True)
def an_empty_node_is_filled(context):
    """A node comes back without its data and its name while 1,000 requests/s go on.

    Those that serve have a CPU and the one that is filled another: it would be a machine of its own.
    """
    needed = 1 << 30 if context.long else 64 << 20
    generator = random.Random(context.seed)
    # Each of three nodes holds two thirds of the data, as primary or replica.
    count = needed * 3 // 2 // VALUE_BYTES
    keys = [b"fill:%d" % i for i in range(count)]
    memory = "2GiB" if context.long else "192MiB"
    with (Cluster(context, 3, max_memory=memory, rebuild_delay=1, start=False) as cluster,
          Memory(cluster)):
        victim = generator.choice(cluster.nodes[:3])
        cpus = sorted(os.sched_getaffinity(0))
        for node in cluster.nodes:
            node.flags["cpus"] = cpus[-1] if node is victim else cpus[0]
        cluster.start()
        write_all(cluster, keys, VALUE_BYTES, wait=1)
        with Load(cluster, generator.random(), rate=1000) as load:
            start = time.monotonic()
            # What is asked during the fill is asked before it, too.
            while time.monotonic() < start + (30 if context.long else 2):
                cluster.lacks()
                time.sleep(0.1)
            at = load.fault(load.ranges_of([victim]))
            victim.kill()
            rest = [node for node in cluster.nodes if node is not victim and node.is_running]
            wait_until(lambda: victim not in cluster.owners(rest[0]), 10, "a failover")
            cluster.wait_ready(300 if context.long else 30, copies=0 if context.is_redis else None,
                               owners=None if not context.is_redis else 3)
            load.settled()
            back = time.monotonic()
            victim.start()
            cluster.wait_ready(600 if context.long else 60, owners=None if not context.is_redis
                               else len(cluster.owners(rest[0])))
            filled = time.monotonic()
            result = load.stop()
        require_all(cluster, keys, VALUE_BYTES, what="after the fill")
        cluster.verify()
    before, meanwhile = result.latency(0.999, start, at), result.latency(0.999, back, filled)
    context.note(f"{needed >> 20} MiB in {filled - back:.1f} s; p99.9 {1000 * before:.1f} -> "
                 f"{1000 * meanwhile:.1f} ms")
    late = result.failures(back)
    require(not late, f"{len(late)} errors during the fill: {late[:3]}")
    slack = 0.0 if context.long else LATENCY_SLACK_SECONDS
    require(meanwhile <= 2 * before + slack, f"p99.9 {1000 * before:.1f} ms before, "
                                             f"{1000 * meanwhile:.1f} ms during the fill")


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def rolling_restart(context):
    """SIGTERM, start, wait for readyz, the next; all nodes, under load."""
    rounds, nodes = (5, 5) if context.long else (1, 3)
    keys = [b"key:%d" % i for i in range(50_000 if context.long else 5000)]
    generator = random.Random(context.seed)
    with Cluster(context, nodes) as cluster, Memory(cluster):
        write_all(cluster, keys, 200, wait=1)
        for number in range(rounds):
            with Load(cluster, generator.random(), rate=1000) as load:
                time.sleep(1)
                started = time.monotonic()
                for node in cluster.nodes:
                    node.terminate()
                    node.start()
                    wait_until(node.is_ready, 60, f"{node} is ready", 0.05)
                took = time.monotonic() - started
                time.sleep(1)
                result = load.stop()
            ratio = result.hits / max(1, result.hits + result.misses)
            context.note(f"round {number}: {nodes} nodes in {took:.1f} s, hit ratio {ratio:.4f}, "
                         f"{result.redirections} redirections, {len(result.failures())} errors")
            require(ratio >= HIT_RATIO_MIN, f"hit ratio {ratio:.4f}")
            require(not result.failures(), f"errors: {result.failures()[:3]}")
            cluster.wait_ready(60)
            require_all(cluster, keys, 200, what=f"round {number}")
        cluster.verify()


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def joins_and_leaves(context):
    """A node joins, is filled without an operator, drains and leaves; ranges stay balanced."""
    keys = [b"key:%d" % i for i in range(3000)]
    with Cluster(context, 3) as cluster:
        write_all(cluster, keys, 200, wait=1)
        before = cluster.slots()
        node = cluster.make_node()
        node.flags["bootstrap_expect"] = None
        node.start()
        cluster.count = 4
        cluster.wait_ready()
        balanced(cluster)
        after = cluster.slots()
        moved = sum(old is not new for old, new in zip(before, after)) // 8
        context.note(f"{moved} ranges moved for a fourth node")
        require(moved <= SLOTS // 8 // 4 + 4, f"{moved} ranges moved, a quarter would do")
        stray = {slot for slot in range(SLOTS) if before[slot] is not after[slot]
                 and after[slot] is not node}
        require(not stray, f"{len(stray)} slots moved between old nodes")
        require_all(cluster, keys, 200, what="after the join")
        cluster.operator("drain", node=node, timeout=40)
        wait_until(lambda: node not in cluster.owners(cluster.nodes[0]), 20, "it owns nothing")
        node.terminate()
        cluster.count = 3
        cluster.wait_ready()
        balanced(cluster)
        require_all(cluster, keys, 200, what="after it has left")
        cluster.verify()


def balanced(cluster):
    """Primaries and copies of the nodes are within one range of each other."""
    primaries = {node: 0 for node in cluster.live()}
    copies = dict(primaries)
    for first, last, primary, replicas in cluster.map():
        primaries[primary] += (last + 1 - first) // 8
        for node in {primary, *replicas}:
            copies[node] += (last + 1 - first) // 8
    for what, counts in (("primaries", primaries), ("copies", copies)):
        require(max(counts.values()) - min(counts.values()) <= 1, f"{what}: {counts}")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_resync"))
