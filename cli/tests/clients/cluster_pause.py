"""A node stands still (SIGSTOP), is taken for dead or not, and wakes up.

It must not answer from what it remembers: another may have been the primary meanwhile. That holds
above all for commands that already waited in its sockets when it woke.
"""

import glob
import random
import sys
import time

from checks import check
from cluster import Cluster, slot_of
from cluster_data import is_error, read_all
from cluster_load import Load
from harness import Skip, require, wait_until
from resp import Closed, encode

KEYS = 50
TEN_YEARS = 10 * 365 * 86_400


def keys_of(cluster, node):
    """Keys that the node owns."""
    slots = cluster.slots()
    return [key for key in (b"key:%d" % i for i in range(5000))
            if slots[slot_of(key)] is node][:KEYS]


def is_owner(cluster, node, key, ask):
    """Whether another node takes that node for the key's primary."""
    return cluster.owner_of(key, ask) is node


def write(cluster, keys, text, ask):
    """Sets all keys, as the map of a node says, and lets one replica confirm where there is one."""
    for key in keys:
        with cluster.owner_of(key, ask).connect() as link:
            require(link.call("SET", key, text) == b"OK", f"SET {key!r}")
            link.call("WAIT", 1, 300 if text == "old" else 1)


def pause_once(context, cluster, generator, seconds, fails_over):
    """Stands still for so long; `fails_over`: True, False, or None for either."""
    victim = generator.choice(cluster.owners())
    ask = next(node for node in cluster.nodes if node is not victim)
    cluster.wait_still(ask)
    keys = keys_of(cluster, victim)
    write(cluster, keys[:5], "old", ask)
    for key in keys[5:]:
        require(victim.call("SET", key, "old") == b"OK", "SET")
    epoch = ask.cluster_info()["cluster_current_epoch"]
    with victim.connect(timeout=15) as cluster_client, victim.connect(timeout=15) as plain_client:
        cluster_client.call("CLUSTER", "SLOTS")
        plain_client.call("PING")
        victim.pause()
        started = time.monotonic()
        for link in (cluster_client, plain_client):
            link.send(b"".join(encode("GET", key) for key in keys))
        moved = False
        if fails_over:
            wait_until(lambda: not is_owner(cluster, victim, keys[0], ask), min(seconds, 5),
                       "another takes over", 0.05)
            moved = True
            write(cluster, keys, "new", ask)
        time.sleep(max(0.0, started + seconds - time.monotonic()))
        victim.resume()
        stale = []
        for link in (cluster_client, plain_client):
            for key in keys:
                try:
                    reply = link.reply()
                except (Closed, ConnectionError):
                    break  # it may as well close what it can't answer
                allowed = (b"new",) if moved else (b"old",) if fails_over is False else (
                    b"old", None)
                if reply not in allowed and not is_error(
                        reply, "MOVED", "TRYAGAIN", "CLUSTERDOWN"):
                    stale.append((key, reply))
        require(not stale, f"paused for {seconds} s: {len(stale)} stale replies to commands that "
                           f"were waiting: {stale[:3]}")
        end = time.monotonic() + 3
        while moved and time.monotonic() < end:
            try:
                with victim.connect(timeout=3) as link:
                    reply = link.call("GET", generator.choice(keys))
            except (Closed, ConnectionError):
                continue
            require(reply == b"new" or is_error(reply), f"stale after waking: {reply!r}")
    if fails_over is False:
        now = ask.cluster_info()["cluster_current_epoch"]
        require(now == epoch, f"paused for {seconds} s: epoch {now}, it was {epoch}")
        require(is_owner(cluster, victim, keys[0], ask), f"a failover after {seconds} s")
    whole = cluster.wait_ready(60, owners=None if not context.is_redis else
                               len(cluster.owners(ask)))
    if moved:
        found = read_all(cluster, keys)
        wrong = [key for key in keys if found[key] != b"new"]
        require(not wrong, f"{wrong[:3]} have gone back to {[found[key] for key in wrong[:3]]}")
    cluster.verify()
    context.note(f"{victim} stood still for {seconds} s: {'' if moved else 'no '}failover seen, "
                 f"whole {whole:.1f} s after it woke")


@check(timeout=90, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def short_pauses(context):
    """0.5 s: no failover; 1 s: either; nothing is lost by the first."""
    generator = random.Random(context.seed)
    with Cluster(context, 5) as cluster:
        for _ in range(10 if context.long else 1):
            pause_once(context, cluster, generator, 0.5, False)
            pause_once(context, cluster, generator, 1.0, None)


@check(timeout=60, shards=(2,), dispatch=("borrow",), alone=True)
def long_pauses(context):
    """10 and 60 s (short form: 4 s): a failover, and no stale reply after waking."""
    generator = random.Random(context.seed)
    with Cluster(context, 3) as cluster:
        for seconds in (10, 60) if context.long else (4,):
            pause_once(context, cluster, generator, seconds, True)


@check(timeout=90, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def wall_clock_jumps(context):
    """The wall clock of one node, then of all, is set by an hour and by ten years: nothing happens.

    With `--long`. Needs Debian's `faketime`, and a server that reads its clocks by libc: one that was
    built with RUSTFLAGS=--cfg=rustix_use_libc.
    """
    if not context.long:
        raise Skip("only with --long, and a server built for it")
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        raise Skip("libfaketime is not installed")
    with Cluster(context, 3, start=False) as cluster:
        offsets = {node: cluster.file(f"clock{node.index}", "+0") for node in cluster.nodes}
        for node, path in offsets.items():
            node.wrapper = ["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={path}",
                            "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        cluster.start()
        one, keys = cluster.nodes[0], [b"key:%d" % i for i in range(100)]
        for key in keys:
            require(one.call("SET", key, "v", "EX", 60) == b"OK", "SET")
        started, epoch = time.monotonic(), one.cluster_info()["cluster_current_epoch"]
        with Load(cluster, context.seed, rate=1000) as load:
            for seconds in (3600, 0, -3600, 0, TEN_YEARS, 0, -TEN_YEARS, 0):
                for nodes in (cluster.nodes[:1], cluster.nodes):
                    for node in nodes:
                        cluster.file(f"clock{node.index}", f"{seconds:+}")
                    time.sleep(1)
                    ahead = int(one.call("TIME")[0]) - time.time()
                    if abs(ahead - seconds) > 2:
                        raise Skip("the server does not read its clocks by libc")
            result = load.stop()
        require(not result.failures(), f"{len(result.failures())} errors: {result.failures()[:3]}")
        require(result.misses == 0, f"{result.misses} keys lost")
        now = one.cluster_info()["cluster_current_epoch"]
        require(now == epoch, f"epoch {now}, it was {epoch}")
        for key in keys:
            left = 60 - (time.monotonic() - started) - one.call("PTTL", key) / 1000
            require(abs(left) < 1, f"{key!r} lives {left:.1f} s shorter than it should")
        context.note(f"{len(result.samples)} requests, no error, no epoch")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_pause"))
