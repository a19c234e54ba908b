"""What is compared: scenarios and limits, as data.

A subject is one server as it is started: its kind, and for fulmar its shards and dispatch mode.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Subject:
    """A server to measure."""

    kind: str  # "redis", "fulmar", "memcached" or "echo"
    shards: int = 1
    dispatch: str = "borrow"

    @property
    def name(self):
        """As it stands in the tables."""
        if self.kind != "fulmar":
            return {"redis": "redis-server", "echo": "bare echo"}.get(self.kind, self.kind)
        shards = f"{self.shards} shard" + ("s" if self.shards > 1 else "")
        return f"fulmar, {shards}" + (f", {self.dispatch}" if self.shards > 1 else "")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Subjects under one kind of load. `client`: "redis-benchmark" or "closed-loop"."""

    name: str
    title: str
    pipeline: int
    requests: int
    client: str
    server_cpus: str
    client_cpus: str
    subjects: tuple
    operations: tuple = ("get", "set")
    connections: int = 50


REDIS, MEMCACHED, ECHO, ONE = (Subject("redis"), Subject("memcached"), Subject("echo"),
                               Subject("fulmar"))
# Needs no shard: what it rises by is the price of the arrangement, not of reaching a shard.
CONTROL = "ping_mbulk"
KEYS_COUNT = 1_000_000
VALUE_BYTES = 32
P1_REQUESTS, P16_REQUESTS = 200_000, 2_000_000


def scenarios(shards, modes):
    """All scenarios; the two-shards ones for these shard counts and dispatch modes."""
    several = tuple(Subject("fulmar", count, mode) for count in shards
                    for mode in (modes if count > 1 else [ONE.dispatch]))
    apart = {"server_cpus": "0", "client_cpus": "1"}
    shared = {"server_cpus": "0,1", "client_cpus": "0,1", "operations": ("get", "set", CONTROL)}
    alone, beside = (REDIS, ONE, ECHO), (REDIS, ONE, MEMCACHED)
    return (
        Scenario("p1", "One core, unpipelined", 1, P1_REQUESTS, "redis-benchmark",
                 subjects=alone, **apart),
        Scenario("p16", "One core, pipeline of 16", 16, P16_REQUESTS, "redis-benchmark",
                 subjects=alone, **apart),
        Scenario("two-shards-p1", "Shards on cores shared with the client, unpipelined", 1,
                 P1_REQUESTS, "redis-benchmark", subjects=(REDIS, *several), **shared),
        Scenario("two-shards-p16", "Shards on cores shared with the client, pipeline of 16", 16,
                 P16_REQUESTS, "redis-benchmark", subjects=(REDIS, *several), **shared),
        Scenario("memcached-p1", "One core beside memcached, unpipelined, client closed_loop.py",
                 1, P1_REQUESTS, "closed-loop", subjects=beside, **apart),
        Scenario("memcached-p16", "One core beside memcached, batches of 16, client closed_loop.py",
                 16, P16_REQUESTS, "closed-loop", subjects=beside, **apart),
    )


# (scenario, subject, compared with, largest ratio of CPU per operation)
RATIO_LIMITS = (("p1", ONE, REDIS, 0.85), ("p16", ONE, REDIS, 0.60), ("p1", ONE, ECHO, 1.15))
# (scenario, subject, compared with, largest rise in CPU microseconds per operation)
RISE_LIMITS = (("two-shards-p1", Subject("fulmar", 2, "borrow"), ONE, 0.8),
               ("two-shards-p16", Subject("fulmar", 2, "borrow"), ONE, 0.2))
