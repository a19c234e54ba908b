"""One key that takes nearly all reads of a cluster: its copies, who pays, and how old they may be.

Plain clients are spread over the nodes. The key's owner lets the others answer reads of it for 250 ms
(`--hot-copy-ms`), and no reply may be older: the last write that was confirmed before a read was sent,
less that time, is the oldest that it may give. The client library asks the owner until it learns what is
hot, and any node then.
"""

import bisect
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time

from checks import check
from cluster import NO_ANSWER, Cluster, slot_of
from cluster_data import write_all
from cluster_network import Network, run
from harness import Skip, cpu_ns, require, wait_until
from resp import encode

HOT = "hot"
LEASE_SECONDS = 0.25
# The nodes' clocks tick in milliseconds.
CLOCK_SECONDS = 0.003
COOL_SECONDS = 2.0
VALUE = b"x" * 100
BATCH = 50
SHARE_MAX = 1.3
# How soon the load has to be spread.
SPREAD_SECONDS_MAX = 2.0
LIBRARY_RATE = 15_000


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


def copy_reads(nodes):
    """Reads that copies have answered, of all these nodes."""
    return sum(int(node.info("cluster")["cluster_hot_copy_reads"]) for node in nodes)


def measured(cluster, links, generator, seconds, hot_share):
    """Of a load: each node's CPU in parts of the mean, microseconds of all per read, and the reads."""
    before = [cpu_ns(node.pid) for node in cluster.nodes]
    count = load(links, generator, seconds, hot_share)
    used = [cpu_ns(node.pid) - was for node, was in zip(cluster.nodes, before)]
    return [one / sum(used) * len(used) for one in used], sum(used) / count / 1000, count


def bytes_and_segments_sent(pid, port):
    """What a process has sent on its connections to a port: bytes, and segments that carried some."""
    listed = run("ss", "-tinpH", "state", "established", "dport", "=", str(port)).splitlines()
    bytes_sent = segments = 0
    for about, details in zip(listed[::2], listed[1::2]):
        if f"pid={pid}," in about:
            found = dict(re.findall(r"(bytes_sent|data_segs_out):(\d+)", details))
            bytes_sent += int(found.get("bytes_sent", 0))
            segments += int(found.get("data_segs_out", 0))
    return bytes_sent, segments


@check(timeout=60, shards=(1,), only="fulmar", alone=True)
def what_a_turn_forwards_is_one_message(context):
    """Increments of one key of another node, many at once: few messages carry them, and each counts."""
    clients, rounds = 20, 20
    with Cluster(context, 2) as cluster, contextlib.ExitStack() as stack:
        owner = cluster.slots()[slot_of(HOT)]
        asked = next(node for node in cluster.nodes if node is not owner)
        links = [stack.enter_context(asked.connect()) for _ in range(clients)]
        before = bytes_and_segments_sent(asked.pid, owner.cluster_port)
        seen = []
        for _ in range(rounds):
            for link in links:
                link.send(encode("INCR", HOT) * BATCH)
            seen += [link.reply() for link in links for _ in range(BATCH)]
        after = bytes_and_segments_sent(asked.pid, owner.cluster_port)
        count = clients * rounds * BATCH
        require(sorted(seen) == list(range(1, count + 1)), "an increment is lost, or counted twice")
        bytes_sent, segments = (now - then for now, then in zip(after, before))
        context.note(f"{count} increments in {segments} segments of {bytes_sent // max(1, segments)} B, "
                     f"{bytes_sent / count:.1f} B for each")
        require(bytes_sent > 20 * count, "what was sent is not what was counted")
        require(segments < count / 25, f"{count} increments in {segments} segments")


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def no_node_is_loaded_alone(context):
    """90 % of all reads are of one key: the busiest node's CPU is at most 1.3 times the mean.

    Without copies the others work for plain clients as hard as the owner: they forward. It is the price
    of a read that falls. Clients that know the map ask the owner alone, or its replicas too.
    """
    generator, seconds = random.Random(context.seed), 8 if context.long else 3
    shares, costs, counts = {}, {}, []

    def note_down(what, links, hot_share):
        """Measures a load."""
        share, cost, count = measured(cluster, links, generator, seconds, hot_share)
        shares[what, lease_ms], costs[what, lease_ms] = share, cost
        counts.append(count)

    for lease_ms in (0, 250) if context.long else (250,):
        with Cluster(context, 3, hot_copy_ms=lease_ms) as cluster, contextlib.ExitStack() as stack:
            write_all(cluster, [HOT.encode(), *(b"key:%d" % n for n in range(1000))],
                      value=lambda key, size: VALUE)
            links = [stack.enter_context(node.connect()) for node in cluster.nodes]
            load(links, generator, 1, 0.0)
            note_down("uniform", links, 0.0)
            load(links, generator, 2, 0.9)
            before = copy_reads(cluster.nodes)
            note_down("hot", links, 0.9)
            answered = (copy_reads(cluster.nodes) - before) / counts[-1]
            # Two of three reads come to another node than the owner, nine of ten are of the key.
            require(answered > 0.5 if lease_ms else answered == 0,
                    f"copies answered {answered:.2f} of the reads")
            if context.long:
                owner = cluster.slots()[slot_of(HOT)]
                link = links[cluster.nodes.index(owner)]
                note_down("MOVED", [link], 1.0)
                readers = [stack.enter_context(node.connect()) for node in cluster.nodes]
                holders = [one for one in readers if one.call("READONLY") == b"OK"
                           and one.call("GET", HOT) == VALUE]
                note_down("READONLY", holders, 1.0)
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
    if context.long:
        require(costs["hot", 250] < costs["hot", 0], f"copies save nothing: {costs}")


class LibraryLoad:
    """loadgen reading through the client library, and what CPU each node uses meanwhile."""

    def __init__(self, context, cluster, seconds, *flags):
        binary = os.path.join(os.path.dirname(context.server), "loadgen")
        if not os.access(binary, os.X_OK):
            raise Skip(f"{binary} is not there")
        report = f"{cluster.directory}/loadgen.json"
        target = ",".join(f"{node.host}:{node.port}" for node in cluster.nodes)
        command = [binary, "--cluster", "--target", target, "--rate", str(LIBRARY_RATE), "--ratio", "0:1",
                   "--duration", str(seconds), "--keys", "1000", "--value-size", str(len(VALUE)),
                   "--connections", "100", "--seed", str(context.seed), "--json", report, *flags]
        # (seconds since the start, each node's CPU)
        self.samples = []
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as load:
            while load.poll() is None:
                self.samples.append((time.monotonic() - started, [cpu_ns(node.pid) for node in cluster.nodes]))
                time.sleep(0.05)
            require(load.returncode == 0, f"loadgen failed:\n{load.stdout.read()}")
        with open(report, encoding="utf-8") as file:
            total = next(row for row in json.load(file)["operations"] if row["name"] == "all")
        require(total["errors"] == 0 and total["count"] >= 0.95 * seconds * LIBRARY_RATE,
                f"{total['count']} reads in {seconds} s, {total['errors']} errors")

    def used(self, begin, end):
        """Seconds between the first and the last sample of a time, and each node's CPU between them."""
        within = [sample for sample in self.samples if begin <= sample[0] <= end]
        (first, before), (last, after) = within[0], within[-1]
        return last - first, [now - was for was, now in zip(before, after)]

    def cost(self, begin, end):
        """Microseconds of all nodes' CPU per read, at the pace that was kept."""
        seconds, used = self.used(begin, end)
        return sum(used) / (seconds * LIBRARY_RATE) / 1000

    def busiest(self, begin, end):
        """The busiest node's CPU in parts of the mean."""
        _, used = self.used(begin, end)
        return max(used) / sum(used) * len(used)


@check(timeout=240, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def the_library_spreads_a_hot_key(context):
    """90 % of all reads are of one key: within 2 s the busiest node's CPU is at most 1.3 times the mean."""
    seconds = 4.0
    for lease_ms in (0, 250) if context.long else (250,):
        usual, costs = [], []
        with Cluster(context, 3, hot_copy_ms=lease_ms) as cluster:
            for _ in range(5 if context.long else 1):
                uniform = LibraryLoad(context, cluster, 2.5, "--prefill")
                before = copy_reads(cluster.nodes)
                hot = LibraryLoad(context, cluster, seconds, "--hot-keys", "1", "--hot-share", "90")
                over = time.monotonic()
                answered = (copy_reads(cluster.nodes) - before) / (seconds * LIBRARY_RATE)
                wait_until(lambda: all(node.info("cluster")["cluster_hot_copies"] == "0"
                                       for node in cluster.nodes), COOL_SECONDS, "the copies are gone")
                gone = time.monotonic() - over
                # The first half second fills, or is used to begin.
                usual.append(uniform.cost(0.5, 2.5))
                costs.append(hot.cost(SPREAD_SECONDS_MAX, seconds))
                first, soon = hot.busiest(0, 0.5), hot.busiest(SPREAD_SECONDS_MAX, SPREAD_SECONDS_MAX + 0.5)
                rest = hot.busiest(SPREAD_SECONDS_MAX, seconds)
                context.note(f"--hot-copy-ms {lease_ms}: busiest {first:.2f} of the mean at first, {soon:.2f} "
                             f"in the half second after {SPREAD_SECONDS_MAX:.0f} s, {rest:.2f} from then on; copies "
                             f"answered {answered:.2f}, and were gone {gone:.2f} s after the end")
                require(first > SHARE_MAX, "the key was no burden from the start")
                # Half a second on a machine that is busy with other things is little.
                soon_max = SHARE_MAX if context.long else 1.6
                require((soon <= soon_max and rest <= SHARE_MAX) or not lease_ms, "a node has most of the load")
        cost, usual_cost = statistics.median(costs), statistics.median(usual)
        context.note(f"--hot-copy-ms {lease_ms}: {cost:.1f} us of CPU per read, uniform keys {usual_cost:.1f}")
        # One round on a machine that is busy with other things says that it is no multiple.
        require(cost <= usual_cost * (1.0 if context.long else 1.5) or not lease_ms, "dearer than uniform keys")


class Watched:
    """The hot key, written ten times a second, and what its readers may still see."""

    def __init__(self, reader_nodes, writer_node):
        self.number = 0
        # (when WAIT confirmed a write, its number), both rising.
        self.confirmed = []
        self.flaws, self.reads, self.failures, self.oldest = [], 0, 0, 0.0
        self.is_over = False
        self.jobs = [threading.Thread(target=self.go_on, args=(self.read, node))
                     for node in reader_nodes]
        self.jobs.append(threading.Thread(target=self.go_on, args=(self.write, writer_node)))

    def __enter__(self):
        for job in self.jobs:
            job.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        for job in self.jobs:
            job.join(5)

    def go_on(self, do, node):
        """Does something with connections to a node, again and again; a node may be lost meanwhile."""
        while not self.is_over:
            try:
                with node.connect(1.0) as link:
                    while not self.is_over:
                        do(link)
            except NO_ANSWER:
                self.failures += 1
                time.sleep(0.02)
            except Exception as error:
                self.flaws.append(f"the check itself: {error!r}")
                return

    def write(self, link):
        """Writes the next number, reads it behind that on the same connection, has it confirmed."""
        self.number += 1
        link.send(encode("SET", HOT, "%0100d" % self.number) + encode("GET", HOT)
                  + encode("WAIT", 1, 300))
        written, value, copies = link.reply(), link.reply(), link.reply()
        if written == b"OK" and isinstance(copies, int) and copies:
            self.confirmed.append((time.monotonic(), self.number))
            if int(value) < self.number:
                self.flaws.append(f"wrote {self.number}, read {int(value)} on the same connection")
        time.sleep(0.1)

    def read(self, link):
        """Reads it a few times at once: no value older than the lease, nor than the one before."""
        sent, last = time.monotonic(), 0
        link.send(encode("GET", HOT) * 20)
        for _ in range(20):
            reply = link.reply()
            if not isinstance(reply, bytes):
                self.failures += 1
                continue
            self.reads += 1
            self.judge(sent, int(reply), last)
            last = int(reply)
        time.sleep(0.004)

    def judge(self, sent, number, last):
        """A reply to what was sent then."""
        confirmed = list(self.confirmed)
        place = bisect.bisect_left(confirmed, (sent - LEASE_SECONDS - CLOCK_SECONDS, 0))
        floor = confirmed[place - 1][1] if place else 0
        if number < floor:
            self.flaws.append(f"read {number}, but {floor} was confirmed "
                              f"{sent - confirmed[place - 1][0]:.3f} s before it was asked for")
        if number < last and last <= floor:
            self.flaws.append(f"read {last}, then {number} on one connection")
        newer = next((when for when, other in confirmed[max(0, place - 3):] if other > number), sent)
        self.oldest = max(self.oldest, sent - newer)


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def no_value_is_older_than_its_lease(context):
    """Ten writes a second of the hot key; its owner is killed, paused and cut off meanwhile."""
    network, seconds = Network(), 10 if context.long else 3
    with Cluster(context, 5, network=network) as cluster:
        for what in ("nothing", "killed", "paused", "cut off"):
            owner = cluster.slots()[slot_of(HOT)]
            others = [node for node in cluster.nodes if node is not owner]
            with Watched(others[1:], others[0]) as watched:
                before = copy_reads(others)
                wait_until(lambda: copy_reads(others) > before + 100, 10, "copies answer")
                time.sleep(0.5)
                if what == "killed":
                    owner.kill()
                elif what == "paused":
                    owner.pause()
                elif what == "cut off":
                    network.cut_off(owner.index)
                time.sleep(seconds)
                if what == "killed":
                    owner.start()
                elif what == "paused":
                    owner.resume()
                elif what == "cut off":
                    network.heal()
                time.sleep(0.5)
            cluster.wait_ready(60)
            require(not watched.flaws, "\n".join(watched.flaws[:10]))
            require(watched.reads > 1000 and len(watched.confirmed) > 10,
                    f"{watched.reads} reads, {len(watched.confirmed)} writes only")
            context.note(f"owner {what}: {watched.reads} reads, {copy_reads(others) - before} by copies, "
                         f"{len(watched.confirmed)} writes confirmed, {watched.failures} errors; oldest "
                         f"value outdated for {1000 * watched.oldest:.0f} ms")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def what_is_not_copied(context):
    """Keys that end sooner than a lease, or are written as often as read; HTTP gets copies, too."""
    with Cluster(context, 3) as cluster:
        owner = cluster.slots()[slot_of(HOT)]
        other = next(node for node in cluster.nodes if node is not owner)

        def by_copies(seconds, writing=None):
            """What copies answer while the key is read through another node."""
            before, end = copy_reads([other]), time.monotonic() + seconds
            with other.connect() as reader, owner.connect() as writer:
                while time.monotonic() < end:
                    if writing:
                        writer.send(writing)
                        writer.reply()
                    reader.send(encode("GET", HOT) * 20)
                    for _ in range(20):
                        reader.reply()
                    time.sleep(0.002)
            return copy_reads([other]) - before

        owner.call("SET", HOT, VALUE)
        require(by_copies(2.5, encode("MSET", *[HOT, VALUE] * 10)) == 0,
                "written half as often as read, and copied")
        time.sleep(COOL_SECONDS + 1.5)
        require(by_copies(2.5, encode("SET", HOT, VALUE, "PX", 200)) == 0,
                "copied, though it ends sooner")
        owner.call("SET", HOT, VALUE, "PX", 600_000)
        require(by_copies(2.5) > 0, "not copied")
        time.sleep(0.2)
        before = copy_reads([other])
        for _ in range(20):
            require(json.loads(other.http(f"/{HOT}")[1]) == {"value": VALUE.decode()},
                    "another value by HTTP")
        # Cores count what they did once a tick.
        wait_until(lambda: copy_reads([other]) > before, 1, "a copy answers HTTP")
        require("fulmar_cluster_hot_copy_reads_total" in other.metrics(), "not in the metrics")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_hot_keys"))
