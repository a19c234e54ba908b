"""One key that takes nearly all reads of a cluster: its copies, who pays, and how old they may be.

Plain clients are spread over the nodes. The key's owner lets the others answer reads of it for 250 ms
(`--hot-copy-ms`), and no reply may be older: the last write that was confirmed before a read was sent,
less that time, is the oldest that it may give.
"""

import bisect
import contextlib
import json
import random
import sys
import threading
import time

from checks import check
from cluster import Cluster, slot_of
from cluster_data import write_all
from cluster_network import Network
from harness import cpu_ns, require, wait_until
from resp import Connection, encode

HOT = "hot"
LEASE_SECONDS = 0.25
# The nodes' clocks tick in milliseconds.
CLOCK_SECONDS = 0.003
COOL_SECONDS = 2.0
VALUE = b"x" * 100
BATCH = 50
SHARE_MAX = 1.3


def load(links, generator, seconds, hot_share):
    """Batches of GETs of values of one length at a fixed pace, by these connections; how many GETs."""
    reply_bytes = BATCH * len(b"$%d\r\n%b\r\n" % (len(VALUE), VALUE))
    count, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        for link in links:
            link.send(b"".join(
                encode("GET", HOT if generator.random() < hot_share else
                       f"key:{generator.randrange(1000)}") for _ in range(BATCH)))
        for link in links:
            link.take(reply_bytes)
            count += BATCH
        time.sleep(max(0.0, started + count / 30_000 - time.monotonic()))
    return count


def measured(cluster, links, generator, seconds, hot_share):
    """CPU seconds of each node over a load, and per read of all."""
    before = [cpu_ns(node.pid) for node in cluster.nodes]
    count = load(links, generator, seconds, hot_share)
    used = [cpu_ns(node.pid) - was for node, was in zip(cluster.nodes, before)]
    return [one / sum(used) * len(used) for one in used], sum(used) / count / 1000


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar")
def no_node_is_loaded_alone(context):
    """90 % of all reads are of one key: the busiest node's CPU is at most 1.3 times the mean.

    Without copies the others work for plain clients as hard as the owner: they forward. It is the price
    of a read that falls. Clients that know the map ask the owner alone, or its replicas too.
    """
    generator, seconds = random.Random(context.seed), 8 if context.long else 3
    shares, costs = {}, {}
    for lease_ms in (0, 250):
        with Cluster(context, 3, hot_copy_ms=lease_ms) as cluster, contextlib.ExitStack() as stack:
            write_all(cluster, [HOT.encode(), *(b"key:%d" % n for n in range(1000))],
                      value=lambda key, size: VALUE)
            links = [stack.enter_context(node.connect()) for node in cluster.nodes]
            load(links, generator, 1, 0.0)
            shares["uniform", lease_ms], costs["uniform", lease_ms] = measured(cluster, links, generator, seconds, 0.0)
            load(links, generator, 2, 0.9)
            shares["hot", lease_ms], costs["hot", lease_ms] = measured(
                cluster, links, generator, seconds, 0.9)
            counts = [node.info("cluster") for node in cluster.nodes]
            copies = sum(int(count["cluster_hot_copies"]) for count in counts)
            reads = sum(int(count["cluster_hot_copy_reads"]) for count in counts)
            require((copies > 0) == (reads > 0) == (lease_ms > 0), f"{copies} copies, {reads} reads")
            if context.long:
                owner = cluster.slots()[slot_of(HOT)]
                link = links[cluster.nodes.index(owner)]
                shares["MOVED", lease_ms], costs["MOVED", lease_ms] = measured(
                    cluster, [link], generator, seconds, 1.0)
                readers = [stack.enter_context(node.connect()) for node in cluster.nodes]
                holders = [one for one in readers if one.call("READONLY") == b"OK"
                           and one.call("GET", HOT) == VALUE]
                shares["READONLY", lease_ms], costs["READONLY", lease_ms] = measured(
                    cluster, holders, generator, seconds, 1.0)
            load(links[:1], generator, COOL_SECONDS, 0.0)
            wait_until(lambda: all(node.info("cluster")["cluster_hot_copies"] == "0"
                                   for node in cluster.nodes), 2, "the copies are gone")
    for (clients, lease_ms), cost in costs.items():
        share = shares.get((clients, lease_ms), [])
        context.note(f"--hot-copy-ms {lease_ms}, {clients}: {cost:.2f} us of CPU per read; shares of the mean "
                     f"{', '.join(f'{one:.2f}' for one in share)}")
    busiest = max(shares["hot", 250])
    require(busiest <= SHARE_MAX, f"the busiest node has {busiest:.2f} of the mean")
    require(costs["hot", 250] <= costs["uniform", 250], f"dearer than uniform keys: {costs}")
    require(costs["hot", 250] < costs["hot", 0], f"copies save nothing: {costs}")


class Watched:
    """The hot key, written ten times a second, and what its readers may still see."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.next = 0
        # When each write was confirmed by WAIT, and its number, both rising.
        self.times, self.numbers = [], []
        self.flaws, self.reads, self.failures, self.oldest = [], 0, 0, 0.0
        self.is_over = False

    def write(self, link):
        """Writes the next number, has it confirmed, reads it through the same connection."""
        self.next += 1
        number = self.next
        replies = []
        link.send(encode("SET", HOT, "%0100d" % number) + encode("WAIT", 1, 300) + encode("GET", HOT))
        for _ in range(3):
            replies.append(link.reply())
        if replies[0] == b"OK" and replies[1]:
            self.times.append(time.monotonic())
            self.numbers.append(number)
        if replies[0] == b"OK" and int(replies[2]) < number:
            self.flaws.append(f"wrote {number}, read {int(replies[2])} on the same connection")

    def check(self, sent, value):
        """A reply to a read that was sent then."""
        number = int(value)
        place = bisect.bisect_left(self.times, sent - LEASE_SECONDS - CLOCK_SECONDS)
        floor = self.numbers[place - 1] if place else 0
        if number < floor:
            self.flaws.append(f"read {number}, but {floor} was confirmed "
                              f"{sent - self.times[place - 1]:.3f} s before it was asked for")
        newer = bisect.bisect_right(self.numbers, number)
        if newer < len(self.times):
            self.oldest = max(self.oldest, sent - self.times[newer])

    def read(self, node):
        """Reads through a node until it is over; what fails is another matter's."""
        while not self.is_over:
            with contextlib.suppress(Exception), node.connect(1.0) as link:
                while not self.is_over:
                    sent = time.monotonic()
                    link.send(encode("GET", HOT) * 20)
                    for _ in range(20):
                        reply = link.reply()
                        if isinstance(reply, bytes):
                            self.check(sent, reply)
                            self.reads += 1
                        else:
                            self.failures += 1
                    time.sleep(0.004)
            time.sleep(0.02)

    def write_on(self, node):
        """Ten writes a second until it is over."""
        while not self.is_over:
            with contextlib.suppress(Exception), node.connect(1.0) as link:
                while not self.is_over:
                    self.write(link)
                    time.sleep(0.1)
            time.sleep(0.02)


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar")
def no_value_is_older_than_its_lease(context):
    """Ten writes a second of the hot key; its owner is killed, paused and cut off meanwhile."""
    network, seconds = Network(), 10 if context.long else 3
    with Cluster(context, 5, network=network) as cluster:
        for what in ("nothing", "killed", "paused", "cut off"):
            owner = cluster.slots()[slot_of(HOT)]
            others = [node for node in cluster.nodes if node is not owner]
            watched = Watched(cluster)
            with others[0].connect() as link:
                watched.write(link)
            jobs = [threading.Thread(target=watched.read, args=(node,)) for node in others[1:]]
            jobs.append(threading.Thread(target=watched.write_on, args=(others[0],)))
            for job in jobs:
                job.start()
            try:
                time.sleep(2.5)
                before = sum(int(node.info("cluster")["cluster_hot_copy_reads"]) for node in others)
                require(before > 0, "no copy answers")
                if what == "killed":
                    owner.kill()
                elif what == "paused":
                    owner.pause()
                elif what == "cut off":
                    network.cut_off(owner.index)
                time.sleep(seconds)
                if what == "paused":
                    owner.resume()
                elif what == "cut off":
                    network.heal()
                elif what == "killed":
                    owner.start()
                time.sleep(0.5)
            finally:
                watched.is_over = True
                for job in jobs:
                    job.join(5)
            cluster.wait_ready(60)
            require(not watched.flaws, "\n".join(watched.flaws[:10]))
            require(watched.reads > 1000, f"{watched.reads} reads only")
            answered = sum(int(node.info("cluster")["cluster_hot_copy_reads"]) for node in others)
            context.note(f"owner {what}: {watched.reads} reads, {answered} answers of copies so far, "
                         f"{len(watched.times)} writes confirmed, {watched.failures} errors; oldest value "
                         f"outdated for {1000 * watched.oldest:.0f} ms")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def what_is_not_copied(context):
    """Keys that end sooner than a lease, or are written as often as read; HTTP gets copies, too."""
    with Cluster(context, 3) as cluster:
        owner = cluster.slots()[slot_of(HOT)]
        other = next(node for node in cluster.nodes if node is not owner)

        def copy_reads(seconds, *more, ttl=None):
            """What copies answer while the key is read through another node."""
            before = int(other.info("cluster")["cluster_hot_copy_reads"])
            with other.connect() as link:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    for command in more:
                        link.send(command * 20)
                    if ttl:
                        owner.call("SET", HOT, VALUE, "PX", ttl)
                    link.send(encode("GET", HOT) * 20)
                    for _ in range(20 * (1 + len(more))):
                        link.reply()
                    time.sleep(0.002)
            return int(other.info("cluster")["cluster_hot_copy_reads"]) - before

        owner.call("SET", HOT, VALUE)
        require(copy_reads(2.5, encode("SET", HOT, VALUE)) == 0, "written as often as read, and copied")
        time.sleep(COOL_SECONDS + 1.5)
        require(copy_reads(2.5, ttl=200) == 0, "copied, though it ends sooner")
        owner.call("SET", HOT, VALUE, "PX", 600_000)
        require(copy_reads(2.5) > 0, "not copied")
        before = int(other.info("cluster")["cluster_hot_copy_reads"])
        with other.connect() as link:
            for _ in range(20):
                link.call("GET", HOT)
        require(json.loads(other.http(f"/{HOT}")[1]) == {"value": VALUE.decode()}, "another value by HTTP")
        require(int(other.metrics()["fulmar_cluster_hot_copy_reads_total"]) >= before, "not in the metrics")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_hot_keys"))
