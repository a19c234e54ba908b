"""An open-loop load on a cluster that knows what each reply must be.

`Load` is a process of its own (cluster_load_loop.py): so many requests a second, at times fixed
beforehand, whatever the cluster does; 80 % GET, 20 % SET, a part of the SETs followed by WAIT 1.
Every value names its key and carries a counter, and each key is written by this process only, so a
reply is judged when it comes:

- never another key's value, nor a counter that was not sent yet;
- never older than the last write of the key that WAIT confirmed before the read was sent;
- never older than the last write acknowledged, or the last value read, before the read was sent;
  that holds always for ranges that no fault has hit, and again after `settled` for the others.

It is a cluster client (it follows MOVED, and asks any other node when one does not answer) or a
plain one that sends each request to any node (`plain=True`). Nothing is retried but redirections:
the next request is the next sample. Keys are those of a few ranges, so that each range is asked
often enough to measure its own window of errors.
"""

import collections
import dataclasses
import multiprocessing
import time

from cluster import RANGE_SLOTS, SLOTS, slot_of
from cluster_load_loop import run_load
from harness import require


@dataclasses.dataclass
class Result:
    """What a load has seen."""

    samples: list
    flaws: list
    redirections: int
    hits: int
    misses: int

    def windows(self, ranges, since, until=float("inf")):
        """Seconds of errors of each range: from its first failure to its next lasting success.

        A range that was asked again too seldom to tell counts until its last failure.
        """
        by_range = collections.defaultdict(list)
        for sample in self.samples:
            if since <= sample.due < until:
                by_range[sample.range].append(sample)
        windows = []
        for number in ranges:
            samples = sorted(by_range[number], key=lambda sample: sample.due)
            failed = [index for index, sample in enumerate(samples) if sample.failure]
            if not failed:
                windows.append(0.0)
                continue
            end = samples[min(failed[-1] + 1, len(samples) - 1)].due
            windows.append(end - samples[failed[0]].due)
        return sorted(windows)

    def failures(self, since=0.0, until=float("inf"), ranges=None):
        """The failed samples of a time, of those ranges only."""
        return [sample for sample in self.samples if sample.failure and since <= sample.due < until
                and (ranges is None or sample.range in ranges)]

    def latency(self, share, since=0.0, until=float("inf"), ranges=None):
        """A percentile of what was answered, in seconds from when it was due."""
        return percentile(sorted(
            sample.seconds for sample in self.samples
            if sample.seconds is not None and since <= sample.due < until
            and (ranges is None or sample.range in ranges)), share)


def percentile(ordered, share):
    """Of values in order; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def spread_ranges(slots, count):
    """So many ranges, as evenly over the owners of the slots as there are."""
    by_owner = collections.defaultdict(list)
    for number in range(SLOTS // RANGE_SLOTS):
        by_owner[slots[number * RANGE_SLOTS]].append(number)
    chosen = []
    for position in range(count):
        for numbers in by_owner.values():
            step = max(1, len(numbers) * len(by_owner) // count)
            if position * step < len(numbers) and len(chosen) < count:
                chosen.append(numbers[position * step])
    return chosen


def keys_of_ranges(ranges, per_range):
    """Keys of exactly these ranges."""
    wanted, found, number = set(ranges), collections.defaultdict(list), 0
    while any(len(found[r]) < per_range for r in wanted):
        key, number = b"load:%d" % number, number + 1
        place = slot_of(key) // RANGE_SLOTS
        if place in wanted and len(found[place]) < per_range:
            found[place].append(key)
    return [key for r in ranges for key in found[r]]


class Load:
    """The load's process, seen from the check; use it as a context manager."""

    def __init__(self, cluster, seed, rate=2000, ranges=40, keys_per_range=5, plain=False,
                 waited_share=0.2, value_bytes=100, nodes=None):
        slots = cluster.slots()
        self.ranges = spread_ranges(slots, ranges)
        self.owners = {number: slots[number * RANGE_SLOTS] for number in self.ranges}
        settings = {"addresses": [node.address for node in nodes or cluster.nodes],
                    "table": [node.address for node in slots],
                    "keys": keys_of_ranges(self.ranges, keys_per_range), "rate": rate,
                    "plain": plain, "waited_share": waited_share, "value_bytes": value_bytes,
                    "seed": seed}
        fork = multiprocessing.get_context("fork")
        self.pipe, theirs = fork.Pipe()
        self.process = fork.Process(target=run_load, args=(settings, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.result = None
        # Answered as soon as the keys are warm.
        self.ask("hello")

    def ask(self, *message):
        """Tells the load something; returns its answer."""
        require(self.process.is_alive() or self.pipe.poll(), "the load has died")
        self.pipe.send(message)
        require(self.pipe.poll(30), f"the load does not answer to {message[0]}")
        try:
            is_ok, answer = self.pipe.recv()
        except EOFError:
            is_ok, answer = False, "the load has died"
        require(is_ok, f"the load: {answer}")
        return answer

    def ranges_of(self, nodes, slots=None):
        """The load's ranges that these nodes own (at its start, or by `slots`)."""
        owner = self.owners if slots is None else {
            number: slots[number * RANGE_SLOTS] for number in self.ranges}
        return [number for number in self.ranges if owner[number] in nodes]

    def fault(self, ranges=None):
        """A fault is about to hit these ranges (default: all): they may lose what nobody waited
        for."""
        self.ask("fault", self.ranges if ranges is None else ranges)
        return time.monotonic()

    def settled(self):
        """From now on nothing acknowledged may be lost."""
        self.ask("settled")

    def stop(self):
        """Ends it; its result. Its flaws fail the check at the end of the context."""
        if self.result is None:
            self.result = Result(**self.ask("stop"))
            self.process.join(5)
        return self.result

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                flaws = self.stop().flaws
                require(not flaws, "wrong or stale replies:\n" + "\n".join(flaws))
        finally:
            self.process.kill()
            self.process.join(5)
