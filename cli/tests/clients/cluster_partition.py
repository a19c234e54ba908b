"""The network between the nodes fails: in two, one way, or a third of all packets.

The nodes are in network namespaces (cluster_network.py); the clients reach all of them throughout.
The majority's side must go on within 2 s and lose nothing that it acknowledged; what the minority
does is `--minority`; after the heal there is one truth on every node, with equal digests within
5 s.
"""

import random
import sys
import time

from checks import check
from cluster import Cluster, slot_of
from cluster_data import is_error, read_all, value_of, write_all
from cluster_load import Load
from cluster_network import Network
from harness import require, wait_until

WINDOW_MAX = 2.0
HEAL_SECONDS_MAX = 5.0


def keys_of(cluster, nodes, count, name):
    """So many keys that these nodes own."""
    slots, keys, number = cluster.slots(), [], 0
    while len(keys) < count:
        key, number = b"%b:%d" % (name, number), number + 1
        if slots[slot_of(key)] in nodes:
            keys.append(key)
    return keys


def majority_value(key, _):
    """What the majority writes."""
    return b"majority=" + key


def tell_all(node, commands):
    """The replies of commands, each sent alone to one node as a plain client."""
    with node.connect(timeout=5) as link:
        return [link.call(*command) for command in commands]


def full_syncs(cluster):
    """How many ranges were copied whole, over all nodes."""
    figures = [value for node in cluster.live() for name, value in node.metrics().items()
               if "full_sync" in name]
    require(figures, "the metrics page counts no full syncs")
    return sum(figures)


def split_and_heal(context, minority_mode):
    """2|3 for a while, then heal."""
    seconds, generator = 30 if context.long else 5, random.Random(context.seed)
    network = Network()
    # With three copies two nodes never have all of a range: what returns needs no full sync.
    with Cluster(context, 5, network=network, minority=minority_mode, rebuild_delay=60,
                 replicas=2) as cluster:
        few = generator.sample(cluster.nodes, 2)
        many = [node for node in cluster.nodes if node not in few]
        base = keys_of(cluster, few, 200, b"base")
        fresh = keys_of(cluster, few, 100, b"fresh")
        write_all(cluster, base, wait=2)
        with Load(cluster, generator.random(), rate=1000, plain=True, nodes=many) as load:
            hit = load.ranges_of(few)
            time.sleep(1)
            at = load.fault(hit) - 0.1
            network.partition([node.index for node in few], [node.index for node in many])
            wait_until(lambda: all(node.provisional() for node in few), 4,
                       f"{few} say that they are provisional", 0.05)
            time.sleep(max(0.0, at + 3 - time.monotonic()))
            load.settled()
            require(not any(node.provisional() for node in many), "the majority is provisional")
            write_all_through(many[0], base)
            minority_acts(few, base, fresh, minority_mode)
            time.sleep(max(0.0, at + seconds - time.monotonic()))
            copied = full_syncs(cluster)
            network.heal()
            healed = time.monotonic()
            cluster.wait_ready(HEAL_SECONDS_MAX)
            cluster.verify()
            took = time.monotonic() - healed
            time.sleep(0.5)
            result = load.stop()
        for node in cluster.nodes:
            found = read_all(cluster, base + fresh, node)
            wrong = [key for key in base if found[key] != majority_value(key, 0)]
            require(not wrong, f"{node} after the heal: {[(key, found[key]) for key in wrong[:3]]}")
            stray = [key for key in fresh if found[key] is not None]
            require(not stray, f"{node} kept what the minority alone wrote: {stray[:3]}")
        copied = full_syncs(cluster) - copied
        windows = result.windows(hit, at)
        context.note(f"{few} apart for {seconds} s: windows up to {max(windows):.2f} s, equal "
                     f"digests {took:.1f} s after the heal, {copied:.0f} full syncs")
        require(max(windows) <= WINDOW_MAX, f"a window of {max(windows):.2f} s")
        aside = result.failures(ranges=[number for number in load.ranges if number not in hit])
        require(not aside, f"{len(aside)} errors of ranges that stayed: {aside[:3]}")
        require(took <= HEAL_SECONDS_MAX, f"equal digests only {took:.1f} s after the heal")
        require(copied == 0, f"{copied:.0f} full syncs although the logs reach the fork")


def write_all_through(node, keys):
    """Overwrites keys on the majority's side."""
    replies = tell_all(node, [("SET", key, majority_value(key, 0)) for key in keys])
    require(set(replies) == {b"OK"}, f"the majority: {[r for r in replies if r != b'OK'][:1]}")


def minority_acts(few, base, fresh, mode):
    """What the smaller side does with reads and writes."""
    for node in few:
        reads = tell_all(node, [("GET", key) for key in base])
        old = sum(reply == value_of(key) for key, reply in zip(base, reads))
        wrong = [reply for key, reply in zip(base, reads)
                 if reply not in (value_of(key), b"divergent", None) and not is_error(reply)]
        require(not wrong, f"{node} reads {wrong[:2]}")
        writes = tell_all(node, [("SET", key, "divergent") for key in base[::2] + fresh])
        if mode == "serve":
            require(set(writes) == {b"OK"}, f"{node}: {[r for r in writes if r != b'OK'][:1]}")
            with node.connect() as link:
                link.ok("SET", fresh[0], "divergent")
                require(link.call("WAIT", 1, 300) == 0, "WAIT of a minority promises something")
        else:
            require(old > 0, f"{node} reads nothing of what it holds: {reads[:2]}")
            taken = [reply for reply in writes if not is_error(reply, "CLUSTERDOWN")]
            require(not taken, f"{node} answers a write {taken[:2]}")
            for key in base[:20]:
                *_, reply = tell_all(node, [("MULTI",), ("SET", key, "divergent"), ("EXEC",)])
                require(is_error(reply), f"{node} answers EXEC with {reply!r}")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def two_of_five_serve(context):
    """2|3 with `--minority serve`: both sides serve; the minority's writes are void afterwards."""
    split_and_heal(context, "serve")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def two_of_five_refuse(context):
    """2|3 with `--minority refuse`: the minority reads what it holds and writes nothing."""
    split_and_heal(context, "refuse")


@check(timeout=60, shards=(2,), dispatch=("borrow",), alone=True)
def one_way(context):
    """A node that nobody hears, and one that hears nobody: its ranges go on, then one truth."""
    seconds, generator = 20 if context.long else 4, random.Random(context.seed)
    network = Network()
    with Cluster(context, 5, network=network, minority="refuse") as cluster:
        for way in ("mute", "deaf"):
            victim = generator.choice(cluster.owners())
            rest = [node for node in cluster.nodes if node is not victim]
            with Load(cluster, generator.random(), rate=1000, plain=not context.is_redis,
                      nodes=None if context.is_redis else rest) as load:
                hit = load.ranges_of([victim])
                time.sleep(1)
                at = load.fault(hit) - 0.1
                for other in rest:
                    pair = (victim.index, other.index)
                    network.lose(*(pair if way == "mute" else pair[::-1]))
                time.sleep(seconds)
                network.heal()
                cluster.wait_ready(40, owners=None if not context.is_redis else
                                   len(cluster.owners(rest[0])))
                load.settled()
                healed = time.monotonic()
                time.sleep(1)
                result = load.stop()
            cluster.verify()
            windows = result.windows(hit, at, healed)
            late = result.failures(healed)
            context.note(f"{victim} {way} for {seconds} s: windows up to {max(windows):.2f} s")
            require(not late, f"errors after the heal: {late[:3]}")
            # Redis's nodes go by what they hear, not by what a quorum hears.
            require(max(windows) <= WINDOW_MAX or context.is_redis,
                    f"{way}: a window of {max(windows):.2f} s")


@check(timeout=60, shards=(2,), dispatch=("borrow",), alone=True)
def a_third_of_all_packets(context):
    """30 % loss between all nodes: no failover, no error, nothing lost."""
    seconds, generator = 60 if context.long else 10, random.Random(context.seed)
    network = Network()
    with Cluster(context, 5, network=network) as cluster:
        before, epoch = cluster.slots(), cluster.nodes[0].cluster_info()["cluster_current_epoch"]
        with Load(cluster, generator.random(), rate=1000, waited_share=0.02) as load:
            time.sleep(1)
            network.shake(0.3)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.5)
                for node in cluster.nodes:
                    info = node.cluster_info()
                    require(info["cluster_state"] == "ok", f"{node}: {info['cluster_state']}")
                    require(info["cluster_current_epoch"] == epoch,
                            f"{node}: epoch {info['cluster_current_epoch']}, it was {epoch}")
            network.heal()
            cluster.wait_ready(20)
            result = load.stop()
        require(cluster.slots() == before, "ranges have moved")
        require(not result.failures(), f"{len(result.failures())} errors: {result.failures()[:3]}")
        cluster.verify()
    context.note(f"{seconds} s of 30 % loss, {len(result.samples)} requests without an error")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def an_address_changes(context):
    """A node comes back with another address, its directory with it: the same member."""
    network = Network()
    with Cluster(context, 3, network=network) as cluster:
        node = cluster.nodes[2]
        keys = [b"key:%d" % i for i in range(1000)]
        write_all(cluster, keys, wait=1)
        name = node.call("CLUSTER", "MYID")
        node.terminate()
        # The name of an unused node's namespace and address, but the old node's directory.
        number = network.add()
        node.host, node.wrapper = network.address(number), network.wrapper(number)
        node.start()
        cluster.wait_ready()
        require(node.call("CLUSTER", "MYID") == name, "it has another id")
        for other in cluster.nodes:
            found = read_all(cluster, keys, other)
            require(all(found[key] == value_of(key) for key in keys), f"{other} has lost keys")
            with other.connect() as link:
                text = link.call("CLUSTER", "NODES").decode()
            require(node.host in text, f"{other} does not know the new address:\n{text[:600]}")
        cluster.verify()


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_partition"))
