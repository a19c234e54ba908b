"""Cluster clients that follow the map: redis-py, ioredis, node-redis, redis-cli, redis-benchmark.

All unmodified, from their packages. What they need of a cluster is what a Redis Cluster gives, so
these checks run against one too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time

from checks import check
from cluster import NO_ANSWER, SLOTS, Cluster, slot_of
from cluster_data import is_error
from harness import Skip, require, wait_until
from redis_py import equal, raises

try:
    import redis
    from redis.cluster import ClusterNode, RedisCluster
except ImportError:
    redis = None

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
NPM_PACKAGES = ("ioredis@5", "redis@5")
SIZES = [0, 1, 100, 16_383, 16_384, 16_385, 65_536, 1 << 20]
LARGE_SIZES = [8 << 20, 64 << 20]
TESTS = "set,get,incr"


def body(size):
    """A value of that size."""
    return (bytes(i * 7 & 255 for i in range(251)) * (size // 251 + 1))[:size]


def cluster_client(cluster, **options):
    """redis-py's cluster client, told of one node only."""
    if redis is None:
        raise Skip("redis-py is not installed for this Python (pip install redis)")
    node = cluster.nodes[0]
    return RedisCluster(startup_nodes=[ClusterNode(node.host, node.port)], socket_timeout=10,
                        **options)


def replicated(cluster):
    """Waits until the replicas have what the primaries had a moment ago."""
    for node in cluster.owners():
        with node.connect() as link:
            link.ok("SET", key_of(cluster, node), "x")
            require(link.call("WAIT", 1, 5000) == 1, f"WAIT 1 at {node}")


def key_of(cluster, node):
    """A key that the node owns."""
    slots = cluster.slots()
    return next(key for key in (b"marker:%d" % i for i in range(10_000))
                if slots[slot_of(key)] is node)


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def redis_py_cluster(context):
    """redis-py's RedisCluster, RESP2 and RESP3: single keys, many keys, pipelines, all nodes."""
    with Cluster(context, 3, max_memory="512MiB") as cluster:
        for protocol in (2, 3):
            with cluster_client(cluster, protocol=protocol) as r:
                r.flushall(target_nodes=RedisCluster.PRIMARIES)
                pairs = {f"key:{i}": b"%d" % i for i in range(500)}
                for key, value in pairs.items():
                    equal(r.set(key, value), True)
                equal([r.get(key) for key in pairs], list(pairs.values()), "GET")
                # A connection that has not asked for the map hears of the whole cluster.
                sizes = r.dbsize(target_nodes=RedisCluster.PRIMARIES)
                equal(sizes in (500, 1000, 1500), True, f"DBSIZE {sizes}")
                equal(r.mget_nonatomic(*pairs, "none"), [*pairs.values(), None])
                equal(set(r.keys(target_nodes=RedisCluster.PRIMARIES)),
                      {key.encode() for key in pairs})
                equal(set(r.scan_iter(target_nodes=RedisCluster.PRIMARIES)),
                      {key.encode() for key in pairs})
                equal(r.exists(*list(pairs)[:100], "none"), 100)
                equal(r.touch(*list(pairs)[:100]), 100)
                equal(r.delete(*list(pairs)[:100]), 100)
                equal(set(r.mset_nonatomic({f"many:{i}": i for i in range(100)})), {True})
                equal(r.mset({f"{{tag}}:{i}": i for i in range(20)}), True)
                equal(r.mget(*(f"{{tag}}:{i}" for i in range(20))), [b"%d" % i for i in range(20)])
                raises(redis.exceptions.RedisClusterException,
                       lambda: r.execute_command("MGET", "a", "b"))
                equal(r.incr("n", 5), 5)
                equal(r.set("ttl", "v", ex=100) and 99 <= r.ttl("ttl") <= 100, True, "TTL")
                for size in SIZES:
                    equal(r.set(f"size:{size}", body(size)), True)
                    equal(r.get(f"size:{size}"), body(size), f"{size} B")
                pipe = r.pipeline()
                for i in range(300):
                    pipe.set(f"p:{i}", i).get(f"p:{i}").incr(f"p:{i}")
                want = [x for i in range(300) for x in (True, b"%d" % i, i + 1)]
                equal(pipe.execute(), want, "pipeline")
                equal(r.cluster_info(target_nodes=r.get_random_node())["cluster_state"], "ok")
                equal(len(r.cluster_slots(target_nodes=r.get_random_node())) >= 3, True, "SLOTS")
                equal(r.keyslot("key:1"), slot_of("key:1"))
        for size in LARGE_SIZES if context.long else LARGE_SIZES[:1]:
            with cluster_client(cluster) as r:
                equal(r.set("large", body(size)), True)
                equal(r.get("large") == body(size), True, f"{size} B")


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def redis_py_reads_replicas(context):
    """redis-py with read_from_replicas: replicas of other addresses answer, with the values."""
    with Cluster(context, 3) as cluster, cluster_client(cluster, read_from_replicas=True) as r:
        keys = [f"key:{i}" for i in range(300)]
        for key in keys:
            equal(r.set(key, key), True)
        replicated(cluster)
        equal(len(r.get_replicas()) >= 3, True, f"replicas {r.get_replicas()}")
        places = {node.name for node in r.get_nodes()}
        equal(len(places), len(r.get_primaries()) + len(r.get_replicas()), "one role an address")
        for _ in range(3):
            equal([r.get(key) for key in keys], [key.encode() for key in keys], "GET")
        for node in r.get_replicas():
            link = r.get_redis_connection(node)
            equal(link.execute_command("READONLY"), True, "READONLY")


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def redirections(context):
    """MOVED and CROSSSLOT as a cluster client must get them; its DBSIZE is its node's."""
    with Cluster(context, 3) as cluster:
        slots = cluster.slots()
        keys = [b"key:%d" % i for i in range(300)]
        sizes = 0
        for node in cluster.owners():
            with node.connect() as link:
                link.ok("CLUSTER", "SLOTS")
                for key in keys:
                    owner, reply = slots[slot_of(key)], link.call("SET", key, "v")
                    want = b"OK" if owner is node else (
                        f"MOVED {slot_of(key)} {owner.host}:{owner.port}")
                    equal(reply, want, f"SET {key!r} at {node}")
                equal(is_error(link.call("MGET", "a", "b", "c"), "CROSSSLOT"), True, "CROSSSLOT")
                equal(is_error(link.call("MSET", "a", 1, "b", 2), "CROSSSLOT"), True, "CROSSSLOT")
                equal(is_error(link.call("WATCH", "a", "b"), "CROSSSLOT"), True, "CROSSSLOT")
                mine, other = key_of(cluster, node), next(
                    key for key in keys if slots[slot_of(key)] is not node)
                equal(link.call("MULTI"), b"OK")
                equal(is_error(link.call("GET", other), "MOVED"), True, "MOVED in MULTI")
                equal(is_error(link.call("EXEC"), "EXECABORT"), True, "EXEC after MOVED")
                equal(link.call("MULTI"), b"OK")
                equal(link.call("SET", mine, 1), b"QUEUED")
                equal(link.call("INCR", mine), b"QUEUED")
                equal(link.call("EXEC"), [b"OK", 2])
                equal(link.call("DEL", mine), 1)
                equal(link.call("ASKING"), b"OK")
                sizes += link.call("DBSIZE")
        equal(sizes, len(keys), "DBSIZE of all nodes")


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def maps_agree(context):
    """CLUSTER SLOTS, SHARDS and NODES say the same on every node; the rest of CLUSTER."""
    with Cluster(context, 3) as cluster:
        want = cluster.slots()
        for node in cluster.nodes:
            with node.connect() as link:
                equal(cluster.slots(node), want, f"CLUSTER SLOTS of {node}")
                shards, nodes = [None] * SLOTS, [None] * SLOTS
                for shard in link.ok("CLUSTER", "SHARDS"):
                    shard = dict(zip(shard[::2], shard[1::2]))
                    masters = [dict(zip(n[::2], n[1::2])) for n in shard[b"nodes"]]
                    masters = [n for n in masters if n[b"role"] == b"master"]
                    equal(len(masters), 1, "one master of a shard")
                    owner = cluster.node_at(masters[0][b"ip"].decode(), masters[0][b"port"])
                    for first, last in zip(shard[b"slots"][::2], shard[b"slots"][1::2]):
                        shards[first:last + 1] = [owner] * (last + 1 - first)
                equal(shards, want, f"CLUSTER SHARDS of {node}")
                myself = []
                for line in link.ok("CLUSTER", "NODES").decode().splitlines():
                    name, place, flags, *rest = line.split()
                    require(re.fullmatch(r"[0-9a-f]{40}", name), f"an id of {name!r}")
                    myself += [name] if "myself" in flags.split(",") else []
                    host, port = place.split("@")[0].rsplit(":", 1)
                    owner = cluster.node_at(host, int(port))
                    for span in rest[5:]:
                        first, last = (span.split("-") * 2)[:2]
                        nodes[int(first):int(last) + 1] = [owner] * (int(last) + 1 - int(first))
                equal(nodes, want, f"CLUSTER NODES of {node}")
                equal(myself, [link.ok("CLUSTER", "MYID").decode()], "myself")
                for key in ("a", "{tag}:b", "x{}y", "{", ""):
                    equal(link.ok("CLUSTER", "KEYSLOT", key), slot_of(key), f"slot of {key!r}")
                info = node.cluster_info()
                for name, value in (("state", "ok"), ("slots_assigned", SLOTS),
                                    ("slots_ok", SLOTS), ("slots_fail", 0)):
                    equal(info[f"cluster_{name}"], str(value), f"cluster_{name}")
                equal(node.info("cluster")["cluster_enabled"], "1", "INFO cluster")
        owner = cluster.owner_of("{tag}")
        for i in range(7):
            owner.call("SET", f"{{tag}}{i}", "v")
        equal(owner.call("CLUSTER", "COUNTKEYSINSLOT", slot_of("{tag}")), 7)


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def map_comes_before_moved(context):
    """While a node hands its ranges over: who sends MOVED has the new owner in CLUSTER SLOTS."""
    with Cluster(context, 3) as cluster:
        node = cluster.owners()[1]
        slots = cluster.slots()
        keys = [key for key in (b"key:%d" % i for i in range(3000))
                if slots[slot_of(key)] is node][:200]
        with node.connect() as link:
            link.ok("CLUSTER", "SLOTS")
            for key in keys:
                equal(link.call("SET", key, "v"), b"OK", f"SET {key!r}")
            if cluster.is_redis:
                equal(link.call("WAIT", 1, 5000), 1, "WAIT")
            hand_over = start_hand_over(cluster, node)
            redirected = follow_moves(cluster, node, link, keys)
            hand_over()
        require(redirected, "no key was seen to be handed over")
        context.note(f"{len(redirected)} of {len(keys)} keys redirected before the node was gone")


def follow_moves(cluster, node, link, keys):
    """Writes keys that a node hands over until all are redirected, or it is gone; those that were."""
    redirected, end = set(), time.monotonic() + 20
    while len(redirected) < len(keys) and time.monotonic() < end:
        for key in keys:
            try:
                reply = link.call("SET", key, "v")
                if reply == b"OK" or key in redirected or is_error(reply, "TRYAGAIN"):
                    continue
                require(is_error(reply, "MOVED"), f"SET {key!r}: {reply!r}")
                owner = cluster.owner_of(key, node)
            except NO_ANSWER:
                return redirected
            host, _, port = reply.split()[2].rpartition(":")
            target = cluster.node_at(host, int(port))
            require(target is not node, f"MOVED to itself: {reply}")
            equal(owner is target, True, f"{node}'s map, {reply}")
            equal(target.call("GET", key), b"v", f"GET {key!r} at {target}")
            redirected.add(key)
    return redirected


def start_hand_over(cluster, node):
    """Begins to move all ranges off a node; a function that waits for its end."""
    if cluster.is_redis:
        replica = next(replicas[0] for _, _, primary, replicas in cluster.map()
                       if primary is node)
        equal(replica.call("CLUSTER", "FAILOVER"), b"OK")
        return lambda: None
    command = [cluster.binary, "cluster", "drain", "--node", f"{node.host}:{node.port}"]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return lambda: equal(running.wait(20), 0, "fulmar cluster drain")


# ---- tools


def run_tool(*command, stdin=None, timeout=60):
    """Output of a tool, which must succeed."""
    if not shutil.which(command[0]):
        raise Skip(f"{command[0]} is not installed")
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True,
                          timeout=timeout, check=False)
    text = (done.stdout + done.stderr).decode("latin-1")
    require(done.returncode == 0, f"{' '.join(map(str, command))}: exit code {done.returncode}\n"
                                  f"{text[-2000:]}")
    return text


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def redis_cli_cluster(context):
    """redis-cli -c follows redirections; --cluster check and info find a whole cluster."""
    with Cluster(context, 3) as cluster:
        node = cluster.owners()[0]
        place = ("-h", node.host, "-p", node.port)
        script = "".join(f"SET key:{i} value:{i}\nGET key:{i}\n" for i in range(200))
        # The first command makes it a cluster client where plain clients are served as well.
        text = run_tool("redis-cli", "-c", *place, stdin=f"CLUSTER MYID\n{script}".encode())
        values = [line for line in text.splitlines() if line.startswith("value:")]
        equal(values, [f"value:{i}" for i in range(200)], "GET by redis-cli -c")
        for command, words in (
                ("check", ("All nodes agree about slots configuration",
                           "All 16384 slots covered")),
                ("info", ("200 keys in 3 ",))):
            text = run_tool("redis-cli", "--cluster", command, f"{node.host}:{node.port}")
            for word in words:
                require(word in text, f"--cluster {command} lacks {word!r}:\n{text}")


@check(timeout=60, shards=(2,), dispatch=("borrow",), alone=True)
def redis_benchmark_cluster(context):
    """redis-benchmark --cluster, with and without pipelines."""
    with Cluster(context, 3) as cluster:
        node = cluster.owners()[0]
        for connections, pipeline in ((1, 16), (50, 1), (50, 16)):
            requests = 500_000 if context.long else 6000
            text = run_tool("redis-benchmark", "--cluster", "-h", node.host, "-p", node.port, "-t",
                            TESTS, "-n", requests, "-c", connections, "-P", pipeline, "-r", 100_000,
                            "-d", 32, "--csv", timeout=120)
            rows = re.findall(r'^"([A-Z ]+)","([\d.]+)"', text, re.M)
            require(len(rows) == 3 and all(float(rate) > 0 for _, rate in rows), text)
            bad = re.search(r"(?im)^.*(error|warning|moved|fail).*$", text)
            require(not bad, f"-c {connections} -P {pipeline}: {bad and bad[0]}")
        equal(sum(node.call("DBSIZE") for node in cluster.owners()) > 1000, True, "keys written")


def npm_folder():
    """A folder under target/ with the packages; installs them once."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise Skip("node and npm are not installed")
    folder = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "npm")
    names = [package.split("@")[0] for package in NPM_PACKAGES]
    if not all(os.path.isdir(os.path.join(folder, "node_modules", name)) for name in names):
        os.makedirs(folder, exist_ok=True)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                               "--prefix", folder, *NPM_PACKAGES], capture_output=True,
                              timeout=120, check=False)
        if done.returncode != 0:
            raise Skip(f"npm install failed: {done.stderr.decode()[-300:]}")
    return folder


@check(timeout=200, shards=(2,), dispatch=("borrow",))
def node_clients(context):
    """ioredis and node-redis, reading from primaries and from replicas (npm, in target/npm)."""
    folder = npm_folder()
    here = os.path.dirname(os.path.abspath(__file__))
    with Cluster(context, 3) as cluster:
        for name in ("ioredis", "redis"):
            for reads in ("master", "slave"):
                node = cluster.owners()[-1]
                done = subprocess.run(
                    ["node", f"{here}/cluster_clients.cjs", folder, name, reads, node.host,
                     str(node.port)], capture_output=True, timeout=60, text=True, check=False)
                require(done.returncode == 0, f"{name}, {reads}: {done.stdout}\n{done.stderr}")
                report = json.loads(done.stdout.splitlines()[-1])
                equal(report["right"], report["asked"], f"{name}, {reads}")
                equal(report["asked"] >= 500, True, f"{name}, {reads}: {report}")


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def clients_outlive_a_failover(context):
    """redis-py's cluster client goes on by itself after a primary has died."""
    with Cluster(context, 3) as cluster, cluster_client(cluster) as r:
        keys = [f"key:{i}" for i in range(200)]
        for key in keys:
            r.set(key, key)
        replicated(cluster)
        victim = cluster.owners()[1]
        victim.kill()
        rest = next(node for node in cluster.live())
        wait_until(lambda: victim not in cluster.owners(rest), 10, "a failover")
        started = time.monotonic()
        wait_until(lambda: all(survives(r, key) for key in keys), 20, "all keys are read again")
        context.note(f"all keys readable {time.monotonic() - started:.2f} s after the failover")


def survives(r, key):
    """Whether the client reads the key; a wrong value fails the check."""
    try:
        equal(r.get(key), key.encode(), key)
        return True
    except redis.RedisError:
        return False


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_clients"))
