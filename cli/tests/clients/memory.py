"""The memory limit: VmRSS under it at all times, and exactly the least recently used are gone.

Replies to SET are checked by the whole pipeline, so that millions of them cost little here.
"""

import os
import random
import sys
import threading
import time

from checks import check, parallel
from harness import require, rss_bytes, size_bytes, status_field
from resp import Connection, Expected, bulk, encode

BATCH_COUNT = 500
COMERS_COUNT = 40
PADDING = os.urandom(1 << 21)
SET = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
SET_WITH_TTL = [SET.replace(b"*3", b"*5") + b"$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(ms), ms)
                for ms in (b"100", b"3000", b"3600000", b"100000000000")]
# Sizes and their weights: mostly small, so that most bytes are in few large ones.
SIZES = ((1, 32, 40), (32, 128, 25), (128, 512, 20), (512, 2048, 10), (2048, 16384, 4.7),
         (16384, 100_000, 0.28), (100_000, 1_000_000, 0.02))
# Allowance for a server that prints no base (the referee).
BASE_BYTES_DEFAULT = 32 << 20


class RssSampler:
    """Samples VmRSS in a thread; use as a context manager."""

    def __init__(self, pid):
        self.pid = pid
        self.peak = 0
        self.samples = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, rss_bytes(self.pid))
            self.samples += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def fill(port, name, count, ttl_share, seed):
    """SETs of mixed sizes, each answered OK, of keys whose share is as the inverse of their rank (Zipf);
    returns the bytes of keys and values sent.
    """
    generator = random.Random(f"{seed} {name}")
    ranges, weights = [s[:2] for s in SIZES], [s[2] for s in SIZES]
    total = 0
    with Connection(port, timeout=30) as link:
        for start in range(0, count, BATCH_COUNT):
            parts = []
            for low, high in generator.choices(ranges, weights, k=BATCH_COUNT):
                size = generator.randrange(low, high)
                key = b"%b:%d" % (name, 2 ** (32 * generator.random()))
                at = start & 1023
                form = generator.choice(SET_WITH_TTL) if generator.random() < ttl_share else SET
                parts.append(form % (len(key), key, size, PADDING[at:at + size]))
                total += len(key) + size
            link.send(b"".join(parts))
            got = link.take(5 * BATCH_COUNT)
            if got != b"+OK\r\n" * BATCH_COUNT:
                at = got.find(b"-")
                require(False, f"an error for an item that fits: {got[max(at, 0):][:120]!r}")
    return total


def come_and_go(port, count, seed):
    """Clients, some dozens at a time, that leave commands unfinished or read no replies."""
    generator = random.Random(f"{seed} come and go")
    crowd = []
    for _ in range(count):
        link = Connection(port, timeout=30)
        crowd.append(link)
        kind = generator.randrange(4)
        key = b"comer:%d" % generator.getrandbits(20)
        if kind == 0:
            size = generator.randrange(60_000)
            link.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000\r\n" + PADDING[:size])
        elif kind == 1:
            value = PADDING[:generator.randrange(40_000)]
            require(link.call("SET", key, value) == b"OK", "SET of a client that just came")
            link.send(encode("GET", key) * 20)
        else:
            link.call("GET", key)
        if len(crowd) > COMERS_COUNT:
            crowd.pop(generator.randrange(len(crowd))).close()
    for link in crowd:
        link.close()
    return 0


def every_size_fits(port):
    """After all that, an item of any size is still taken and read back."""
    with Connection(port) as link:
        for size in (0, 1, 10, 60, 100, 200, 500, 1000, 3000, 8000, 16_384, 16_385, 40_000,
                     65_536, 100_000, 300_000, 1 << 20):
            value = PADDING[:size]
            require(link.call("SET", f"fits:{size}", value) == b"OK", f"SET of {size} bytes")
            require(link.call("GET", f"fits:{size}") == value, f"GET of {size} bytes")


@check(timeout=120, dispatch=("borrow",))
def stays_under_its_limit(context):
    """SETs of mixed sizes, many times the limit, while clients come and go: VmRSS under limit + base,
    no error, ever.
    """
    limit = "256MiB" if context.long else "64MiB"
    count = 100_000_000 if context.long else 400_000
    with context.serve(max_memory=limit) as server:
        at_start = rss_bytes(server.pid)
        base = BASE_BYTES_DEFAULT if server.base_bytes is None else server.base_bytes
        allowed = size_bytes(limit) + base
        started = time.monotonic()
        with RssSampler(server.pid) as sampler:
            clients = [(fill, server.port, b"m%d" % i, count // 2, 0.2, context.seed)
                       for i in range(2)]
            clients.append((come_and_go, server.port, count // 300, context.seed))
            sent = sum(parallel(lambda call, *arguments: call(*arguments), clients,
                                110 * (60 if context.long else 1)))
            every_size_fits(server.port)
        peak = max(sampler.peak, status_field(server.pid, "VmHWM"))
        with Connection(server.port) as link:
            held = link.call("DBSIZE")
        context.note(f"{count} SETs of {sent >> 20} MiB and {count // 300} clients in {time.monotonic() - started:.1f} s; "
                     f"{held} items held; VmRSS {at_start >> 20} MiB at start, "
                     f"{peak / 2**20:.1f} MiB at most, {allowed / 2**20:.1f} MiB allowed "
                     f"({base / 2**20:.1f} MiB base)")
        require(sent > 3 * size_bytes(limit), "too little was written to say anything")
        require(peak <= allowed, f"VmRSS reached {peak} bytes, {allowed} are allowed")
        require(held > 1000, "hardly anything was kept")


@check(timeout=60, dispatch=("borrow",))
def limit_holds_with_long_values_and_connections(context):
    """Values of 1 MiB and 500 clients with unfinished commands share the limit."""
    with context.serve(max_memory="64MiB") as server:
        base = BASE_BYTES_DEFAULT if server.base_bytes is None else server.base_bytes
        with RssSampler(server.pid) as sampler, Connection(server.port) as link:
            crowd = [Connection(server.port) for _ in range(500)]
            for number in range(300):
                require(link.call("SET", f"large:{number % 100}", PADDING[:1 << 20]) == b"OK",
                        "SET of 1 MiB")
                if number == 100:
                    for one in crowd:
                        one.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16000\r\n" + PADDING[:15_000])
                    time.sleep(0.1)
            for one in crowd:
                one.close()
            every_size_fits(server.port)
        context.note(f"VmRSS {sampler.peak / 2**20:.1f} MiB at most, limit 64 MiB "
                     f"and {base / 2**20:.1f} MiB base")
        require(sampler.peak <= (64 << 20) + base, f"VmRSS reached {sampler.peak} bytes")


# ---- exact LRU


def pipelined(link, commands, reply_bytes):
    """Sends commands in batches; the replies, joined (all of the same length)."""
    out = []
    for start in range(0, len(commands), 1000):
        batch = commands[start:start + 1000]
        link.send(b"".join(batch))
        out.append(link.take(reply_bytes * len(batch)))
    return b"".join(out)


def present(link, keys):
    """Which of the keys exist (EXISTS does not touch them).

    Newest first: were the oldest asked first, some could be evicted between their answer and the
    next one's, since replies take memory too.
    """
    replies = pipelined(link, [encode("EXISTS", key) for key in reversed(keys)], 4)
    return [replies[i * 4 + 1:i * 4 + 2] == b"1" for i in reversed(range(len(keys)))]


def survivors_are_newest(link, order, what):
    """Fails unless the keys that exist are exactly the last ones of `order`; their number."""
    alive = present(link, order)
    count = sum(alive)
    require(0 < count < len(order), f"{what}: {count} of {len(order)} keys left: no eviction")
    wrong = [i for i, lives in enumerate(alive) if lives != (i >= len(order) - count)]
    require(not wrong, f"{what}: {count} of {len(order)} survive, but not the newest: "
                       f"first wrong at {wrong[:1]} of {len(wrong)}")
    return count


@check(timeout=60, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def least_recently_used_go(context):
    """Items of one size: survivors are exactly the most recently written and read.

    (The referee samples, so it is no model here.)
    """
    count, shards = 600_000, context.configuration.shards
    for value_bytes in (100, 3000):
        limit = f"{(16 if value_bytes < 1000 else 64) * shards}MiB"
        with context.serve(max_memory=limit) as server:
            number = count if value_bytes < 1000 else count // 10
            # One hash tag, one slot, one shard: that shard's order is the client's order.
            keys = [b"{lru}:%08d" % i for i in range(number * 2)]
            value = b"x" * value_bytes
            with Connection(server.port, timeout=30) as link:
                def write(chosen):
                    got = pipelined(link, [encode("SET", key, value) for key in chosen], 5)
                    require(got == b"+OK\r\n" * len(chosen), "SET failed")

                order = keys[:number]
                write(order)
                kept = survivors_are_newest(link, order, "after writing")
                # Read every third of the survivors, oldest first: they become the newest. The
                # very oldest are left alone, since the replies themselves take memory.
                alive = order[-kept:]
                read = alive[kept // 10::3]
                got = pipelined(link, [encode("GET", key) for key in read],
                                len(b"$%d\r\n" % value_bytes) + value_bytes + 2)
                require(len(got) == len(read) * (value_bytes + 4 + len(str(value_bytes)) + 1),
                        "GET of survivors")
                chosen = set(read)
                order = [key for key in alive if key not in chosen] + read
                # New ones push out about half of the rest.
                new = keys[number:number + kept // 3]
                write(new)
                order += new
                kept = survivors_are_newest(link, order, "after reading every third")
                require(kept >= len(new) + len(read) * 9 // 10, "the read ones are gone")
                # Overwriting touches too; reading what is gone, and deleting, do not disturb.
                rewritten = order[-kept::2][:kept // 4]
                write(rewritten)
                chosen = set(rewritten)
                order = [key for key in order[-kept:] if key not in chosen] + rewritten
                new = keys[number + kept:number + kept + kept // 2]
                write(new)
                order += new
                kept = survivors_are_newest(link, order, "after overwriting")
            context.note(f"{value_bytes} B values: {kept} kept, in exact order")


@check(timeout=60, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def hot_keys_survive_a_flood(context):
    """Keys that are read all the time outlive any number of new ones, on every shard."""
    with (context.serve(max_memory=f"{16 * context.configuration.shards}MiB") as server,
          Connection(server.port, timeout=30) as link):
        hot = [b"hot:%d" % i for i in range(500)]
        pipelined(link, [encode("SET", key, "h" * 100) for key in hot], 5)
        for number in range(40 + 40 * context.configuration.shards):
            pipelined(link, [encode("SET", b"cold:%d:%d" % (number, i), "c" * 100)
                             for i in range(5000)], 5)
            link.exchange(b"".join(encode("GET", key) for key in hot),
                          Expected().exact(bulk(b"h" * 100) * len(hot)))
        require(link.call("MGET", *hot) == [b"h" * 100] * len(hot), "hot keys were evicted")
        size = link.call("DBSIZE")
        require(size < 400_000, f"nothing was evicted: {size}")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="memory"))
