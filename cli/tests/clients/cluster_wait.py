"""WAIT: what a replica confirmed survives its primary; the rest loses no more than the lag says.

Writers set keys of their own, each key once, every other one followed by WAIT 1, while primaries
are killed at random. Afterwards each write that WAIT confirmed must be there. Of the others, one
may be lost only if it was acknowledged within the lag that the killed node published just before
(`lag_ms` in INFO replication: what a failover now would lose).
"""

import multiprocessing
import random
import signal
import sys
import time
import traceback

from checks import check
from cluster import NO_ANSWER, Cluster, slot_of
from cluster_data import is_error, read_all, value_of
from harness import die_with_parent, require, wait_until

WAIT_MS = 500
LAG_POLL_SECONDS = 0.02
# Between an acknowledgement and its clock reading here, or a reading of the lag and its.
LAG_SLACK_SECONDS = 0.15


class Writer:
    """A process that writes until told to stop."""

    def __init__(self, cluster, number, plain):
        fork = multiprocessing.get_context("fork")
        self.pipe, theirs = fork.Pipe()
        self.confirmed = fork.Value("q", 0)
        self.process = fork.Process(target=self._run, args=(theirs, cluster, number, plain),
                                    daemon=True)
        self.process.start()
        theirs.close()

    def stop(self):
        """Its acknowledged writes: [(key, acknowledged at, confirmed by WAIT, owner's index)]."""
        self.pipe.send("stop")
        require(self.pipe.poll(30), "a writer hangs")
        is_ok, value = self.pipe.recv()
        self.process.join(5)
        require(is_ok, f"a writer: {value}")
        return value

    def _run(self, pipe, cluster, number, plain):
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            pipe.send((True, self._write(pipe, cluster, number, plain)))
        except BaseException:  # the check reports it
            pipe.send((False, traceback.format_exc()))

    def _write(self, pipe, cluster, number, plain):
        generator, writes, links = random.Random(number), [], {}
        slots, count = self._map(cluster, generator, None), 0
        while not pipe.poll():
            count += 1
            key = b"w%d:%d" % (number, count)
            owner = slots[slot_of(key)]
            node = generator.choice(cluster.nodes) if plain or owner is None else owner
            try:
                if node not in links:
                    links[node] = node.connect(timeout=1.5)
                reply = links[node].call("SET", key, value_of(key))
                now = time.monotonic()
                if is_error(reply):
                    slots = self._map(cluster, generator, slots)
                    continue
                confirmed = False
                if count % 2:
                    reply = links[node].call("WAIT", 1, WAIT_MS)
                    confirmed = isinstance(reply, int) and reply >= 1
                    self.confirmed.value += confirmed
                writes.append((key, now, confirmed, owner.index if owner else None))
            except NO_ANSWER:
                if node in links:
                    links.pop(node).close()
                slots = self._map(cluster, generator, slots)
        return writes

    @staticmethod
    def _map(cluster, generator, known):
        """The map of any node that answers."""
        time.sleep(0.02)
        for node in generator.sample(cluster.nodes, len(cluster.nodes)):
            try:
                slots = [None] * 16_384
                with node.connect(timeout=0.5) as link:
                    for first, last, primary, *_ in link.call("CLUSTER", "SLOTS"):
                        owner = cluster.node_at(primary[0].decode(), primary[1])
                        slots[first:last + 1] = [owner] * (last + 1 - first)
                return slots
            except (*NO_ANSWER, TypeError, ValueError, AttributeError):
                continue
        return known or [None] * 16_384


def published_lag(node, seconds):
    """The greatest lag in ms that the node publishes over that time, its last reading not less."""
    end, lags = time.monotonic() + seconds, []
    while time.monotonic() < end:
        lags.append(node.lag_ms())
        time.sleep(LAG_POLL_SECONDS)
    return max(lags)


@check(timeout=90, shards=(2,), dispatch=("borrow",), alone=True)
def confirmed_writes_survive(context):
    """SET and WAIT 1 with primaries killed at random; plain clients and cluster clients."""
    wanted = 100_000 if context.long else 3000
    kills_min = 20 if context.long else 2
    generator = random.Random(context.seed)
    with Cluster(context, 3) as cluster:
        writers = [Writer(cluster, number, plain=number == 1 and not context.is_redis)
                   for number in range(2)]
        kills = []
        while len(kills) < kills_min or sum(w.confirmed.value for w in writers) < wanted:
            owners = cluster.owners()
            victim = generator.choice(owners)
            time.sleep(generator.uniform(0.3, 1.0))
            lag = published_lag(victim, 0.4)
            kills.append((victim.index, time.monotonic(), lag))
            victim.kill()
            rest = cluster.live()[0]
            wait_until(lambda: victim not in cluster.owners(cluster.live()[0]), 20,
                       f"{victim}'s ranges have other owners")
            time.sleep(generator.uniform(0.0, 0.5))
            victim.start()
            cluster.wait_ready(60, owners=None if not context.is_redis else
                               len(cluster.owners(rest)))
        writes = [write for writer in writers for write in writer.stop()]
        found = read_all(cluster, [key for key, *_ in writes])
    judge(context, writes, found, kills)


def judge(context, writes, found, kills):
    """What is lost, and whether it may be."""
    confirmed = [write for write in writes if write[2]]
    wrong = [key for key, *_ in writes if found[key] not in (None, value_of(key))]
    lost = [write for write in writes if found[write[0]] is None]
    lost_confirmed = [write for write in lost if write[2]]
    context.note(f"{len(kills)} kills, {len(writes)} writes, {len(confirmed)} confirmed by WAIT, "
                 f"{len(lost)} others lost; published lags {[round(k[2], 1) for k in kills]} ms")
    require(not wrong, f"{len(wrong)} wrong values: {wrong[:3]}")
    require(not lost_confirmed, f"{len(lost_confirmed)} of {len(confirmed)} writes confirmed by "
                                f"WAIT are lost: {lost_confirmed[:3]}; kills {kills}")
    for write in lost:
        excuses = [lag for _, at, lag in kills
                   if at - lag / 1000 - LAG_SLACK_SECONDS <= write[1] <= at + LAG_SLACK_SECONDS]
        require(excuses, f"{write[0]!r} was acknowledged at {write[1]:.3f}, out of the published "
                         f"lag before each kill, and is lost: {kills}")


@check(timeout=60, shards=(2,), dispatch=("borrow",), alone=True)
def counts_acknowledgements(context):
    """WAIT's number, its time-out, and what the lag of a replica that stands still says."""
    with Cluster(context, 3) as cluster:
        primary = cluster.owner_of("k")
        replica = next(replicas[0] for first, last, _, replicas in cluster.map()
                       if first <= slot_of("k") <= last)
        with primary.connect() as link:
            require(isinstance(link.call("WAIT", 0, 100), int), "WAIT without a write")
            require(link.call("SET", "k", "v") == b"OK", "SET")
            require(link.call("WAIT", 1, 2000) == 1, "WAIT 1")
            replica.pause()
            require(link.call("SET", "k", "w") == b"OK", "SET")
            started = time.monotonic()
            require(link.call("WAIT", 1, 200) == 0, "WAIT 1 while the replica stands still")
            waited = time.monotonic() - started
            require(0.19 <= waited < 1.0, f"WAIT's time-out of 200 ms took {waited:.3f} s")
            lag = primary.lag_ms()
            replica.resume()
            require(lag >= 100, f"a replica that has not answered for 200 ms lags {lag} ms")
            require(link.call("WAIT", 1, 3000) == 1 or context.is_redis, "WAIT 1 afterwards")
        cluster.wait_ready()
        if not context.is_redis:
            names = [name for name in primary.metrics() if "lag" in name]
            require(names, "the metrics page has no lag")
            with primary.connect() as link:
                wait_until(lambda: link.call("SET", "k", "x") == b"OK" and primary.lag_ms() < 100,
                           10, "the lag is small again")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_wait"))
