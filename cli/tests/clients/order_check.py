"""Replies are right and in order: pipelines of mixed keys over all shards, values unique.

A client owns its keys, so it knows every reply byte before it asks (`Model`). Several processes
with several connections each send pipelines at once, cut at random places, with values from 0 B
to 1 MiB; a reply that is wrong, late by one, or another client's shows at once.
"""

import itertools
import os
import random
import sys
import time

from checks import check, parallel
from harness import require
from resp import (Connection, Exchange, Expected, array, bulk, encode, exchange_all, integer)

KEYS_PER_CONNECTION = 60
LARGE_KEYS_PER_CONNECTION = 2
COMMANDS_MAX = 150
SMALL_SIZES = [0, 0, 1, 2, 7, 8, 20, 50, 100, 200, 500, 1000, 4000]
LARGE_SIZES = [16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 30_000, 65_535, 65_536, 65_537, 200_000,
               1 << 20]
OK = b"+OK\r\n"
PADDING = os.urandom(1 << 20) * 2


class Model:
    """One connection's keys and values, and random commands on them with their replies."""

    def __init__(self, name, generator):
        self.name = name
        self.random = generator
        self.serial = 0
        self.values = {}
        self.keys = [f"{name}:{i}".encode() for i in range(KEYS_PER_CONNECTION)]
        # Same tags, same slot: these share a shard.
        self.keys += [f"{{{name}}}:{i}".encode() for i in range(5)]
        self.large_keys = [f"{name}:large:{i}".encode() for i in range(LARGE_KEYS_PER_CONNECTION)]

    def value(self, size):
        """A value of `size` bytes that no other command wrote (if there is room to say so)."""
        self.serial += 1
        start = self.random.randrange(1 << 20)
        return (b"%s#%d#" % (self.name.encode(), self.serial) + PADDING[start:start + size])[:size]

    def key_and_value(self):
        """A key and a new value for it; rarely a large one."""
        if self.random.random() < 0.01:
            return self.random.choice(self.large_keys), self.value(self.random.choice(LARGE_SIZES))
        return self.random.choice(self.keys), self.value(self.random.choice(SMALL_SIZES))

    def command(self):
        """One random command and its reply (bytes, or a judge of a line)."""
        key, value = self.key_and_value()
        make = self.random.choices(
            [self.set, self.get, self.mget, self.mset, self.delete, self.append, self.incr,
             self.exists, self.strlen, self.getrange, self.setrange, self.getset, self.getdel,
             self.setnx, self.ping, self.echo, self.dbsize, self.ttl, self.transaction,
             self.remote_size_local, self.unknown],
            [30, 40, 8, 6, 6, 4, 6, 4, 4, 4, 4, 4, 4, 3, 2, 2, 2, 3, 3, 3, 1])[0]
        return make(key, value)

    def set(self, key, value):
        self.values[key] = value
        return encode("SET", key, value), OK

    def get(self, key, _):
        return encode("GET", key), bulk(self.values.get(key))

    def some_keys(self):
        return [self.random.choice(self.keys) for _ in range(self.random.randint(1, 12))]

    def mget(self, *_):
        keys = self.some_keys()
        return encode("MGET", *keys), array(*(bulk(self.values.get(key)) for key in keys))

    def mset(self, *_):
        pairs = [(key, self.value(self.random.choice(SMALL_SIZES))) for key in self.some_keys()]
        self.values.update(pairs)
        return encode("MSET", *itertools.chain(*pairs)), OK

    def delete(self, *_):
        keys = self.some_keys()[:4]
        gone = sum(self.values.pop(key, None) is not None for key in keys)
        return encode(self.random.choice(("DEL", "UNLINK")), *keys), integer(gone)

    def append(self, key, value):
        value = value[:3000]
        old = self.values.get(key, b"")
        if len(old) > 1 << 20:
            return self.strlen(key, value)
        self.values[key] = old + value
        return encode("APPEND", key, value), integer(len(self.values[key]))

    def incr(self, *_):
        key = self.name.encode() + b":counter"
        self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + 1)
        return encode("INCR", key), integer(int(self.values[key]))

    def exists(self, *_):
        keys = self.some_keys()
        return encode("EXISTS", *keys), integer(sum(key in self.values for key in keys))

    def strlen(self, key, _):
        return encode("STRLEN", key), integer(len(self.values.get(key, b"")))

    def getrange(self, key, _):
        start, end = self.random.randrange(100), self.random.randrange(100, 40_000)
        return (encode("GETRANGE", key, start, end),
                bulk(self.values.get(key, b"")[start:end + 1]))

    def setrange(self, key, value):
        if not value:
            return self.strlen(key, value)
        offset = self.random.choice((0, 5, 300))
        old = self.values.get(key, b"").ljust(offset, b"\0")
        self.values[key] = old[:offset] + value + old[offset + len(value):]
        return encode("SETRANGE", key, offset, value), integer(len(self.values[key]))

    def getset(self, key, value):
        old, self.values[key] = self.values.get(key), value
        return encode("GETSET", key, value), bulk(old)

    def getdel(self, key, _):
        return encode("GETDEL", key), bulk(self.values.pop(key, None))

    def setnx(self, key, value):
        if key in self.values:
            return encode("SETNX", key, value), integer(0)
        self.values[key] = value
        return encode("SETNX", key, value), integer(1)

    def ping(self, *_):
        return encode("PING"), b"+PONG\r\n"

    def echo(self, *_):
        text = self.value(40)
        return encode("ECHO", text), bulk(text)

    def dbsize(self, *_):
        return encode("DBSIZE"), self.judge_size()

    def judge_size(self):
        own = len(self.values)
        return lambda line: None if int(line[1:]) >= own else f"fewer than the {own} of one client"

    def ttl(self, key, _):
        return encode("TTL", key), integer(-1 if key in self.values else -2)

    def unknown(self, *_):
        word = self.value(30).hex()
        return (encode("NOSUCH" + word),
                f"-ERR unknown command 'NOSUCH{word}', with args beginning with: \r\n".encode())

    def transaction(self, *_):
        """MULTI, a few commands, EXEC or DISCARD."""
        before = dict(self.values)
        parts = [self.random.choice((self.set, self.get, self.incr, self.mset, self.delete))(
            *self.key_and_value()) for _ in range(self.random.randint(0, 8))]
        queue = encode("MULTI") + b"".join(payload for payload, _ in parts)
        queued = OK + b"+QUEUED\r\n" * len(parts)
        if self.random.random() < 0.2:
            self.values = before
            return queue + encode("DISCARD"), queued + OK
        return queue + encode("EXEC"), queued + array(*(reply for _, reply in parts))

    def remote_size_local(self, key, value):
        """A write, a command on all shards, and a read: the size must include the write."""
        write, _ = self.set(key, value)
        size = self.judge_size()
        other = self.random.choice(self.keys)
        read, read_reply = self.get(other, None)
        return write + encode("DBSIZE") + read, [OK, size, read_reply]

    def pipeline(self):
        """A random pipeline and what it must be answered."""
        payload, expected = [], Expected()
        for _ in range(self.random.choice((1, 2, 16, COMMANDS_MAX))):
            sent, replies = self.command()
            payload.append(sent)
            for reply in replies if isinstance(replies, list) else [replies]:
                expected.exact(reply) if isinstance(reply, bytes) else expected.line(reply)
        return b"".join(payload), expected


def cuts(generator):
    """Sizes to cut a stream at: whole, in large pieces, or in crumbs."""
    kind = generator.random()
    if kind < 0.5:
        return None
    sizes = (1, 2, 5, 17, 100) if kind < 0.6 else (500, 1500, 16_384, 100_000)
    return (generator.choice(sizes) if i < 300 else 1 << 17 for i in itertools.count())


def client(port, name, connections, seed, seconds, kind=Model, host="127.0.0.1"):
    """One process: pipelines on several connections at once until the time is over."""
    generator = random.Random(f"{seed} {name}")
    models = [kind(f"{name}.{i}", generator) for i in range(connections)]
    links = [Connection(port, 20, host) for _ in models]
    commands, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        chosen = generator.sample(range(connections), generator.randint(1, connections))
        jobs = []
        for index in chosen:
            payload, expected = models[index].pipeline()
            commands += payload.count(b"\r\n*") + 1
            jobs.append(Exchange(links[index], payload, expected, cuts(generator)))
        exchange_all(jobs)
        if generator.random() < 0.02:
            # Another connection of another core goes on with the same keys.
            index = generator.randrange(connections)
            links[index].close()
            links[index] = Connection(port, 20, host)
    for model, link in zip(models, links):
        keys = list(model.values)
        expected = Expected().exact(b"".join(bulk(model.values[key]) for key in keys))
        link.exchange(b"".join(encode("GET", key) for key in keys), expected)
    return commands


@check(timeout=60)
def pipelines_in_order(context):
    """Many clients at once, each with its own keys: every reply byte is as foreseen."""
    seconds = 60 if context.long else 4
    with context.serve(max_memory="1GiB") as server:
        counts = parallel(client, [(server.port, f"p{i}", 6, context.seed, seconds)
                                   for i in range(3)], seconds + 40)
    context.note(f"{sum(counts)} commands in {seconds} s, seed {context.seed}")


@check(timeout=30)
def size_of_all_shards(context):
    """One client alone: `SET; DBSIZE; GET` in one pipeline, the size exact each time."""
    generator = random.Random(context.seed)
    with context.serve() as server, Connection(server.port) as connection:
        keys = []
        for _ in range(100):
            payload, expected = bytearray(), Expected()
            for _ in range(generator.randint(1, 60)):
                kind = generator.random()
                if kind < 0.005:
                    keys.clear()
                    payload += encode("FLUSHALL")
                    expected.exact(OK)
                elif kind < 0.3 and keys:
                    payload += encode("DEL", keys.pop(generator.randrange(len(keys))))
                    expected.exact(integer(1))
                else:
                    keys.append(b"key:%d" % generator.getrandbits(60))
                    payload += encode("SET", keys[-1], keys[-1])
                    expected.exact(OK)
                read = generator.choice(keys) if keys else b"none"
                payload += encode("DBSIZE") + encode("GET", read)
                expected.exact(integer(len(keys)) + bulk(read if keys else None))
            connection.exchange(bytes(payload), expected, cuts(generator))


def adder(port, name, seconds):
    """Adds keys; the size of all shards never falls, and always includes one's own."""
    last, own, end = 0, 0, time.monotonic() + seconds
    with Connection(port) as connection:
        while time.monotonic() < end:
            connection.send(b"".join(encode("SET", f"{name}:{own + i}", "v") + encode("DBSIZE")
                                     for i in range(20)))
            for _ in range(20):
                require(connection.reply() == b"OK", "SET failed")
                own += 1
                size = connection.reply()
                require(size >= last and size >= own,
                        f"DBSIZE fell from {last} to {size} with {own} own keys and no deletes")
                last = size
    return own


@check(timeout=30)
def size_never_falls(context):
    """Several clients add keys: DBSIZE is one moment of all shards, so it never goes back."""
    with context.serve() as server:
        counts = parallel(adder, [(server.port, f"a{i}", 3) for i in range(4)], 20)
        with Connection(server.port) as connection:
            size = connection.call("DBSIZE")
            require(size == sum(counts), f"DBSIZE {size} after {sum(counts)} new keys")


def writer_and_readers(port, seed, seconds):
    """Writes on one connection, then reads the same key on others: an answered write is seen."""
    generator = random.Random(seed)
    links = [Connection(port) for _ in range(6)]
    serial, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            serial += 1
            key, value = f"w{seed}:{generator.randrange(50)}", str(serial).encode()
            write, *reads = generator.sample(links, 4)
            require(write.call("SET", key, value) == b"OK", "SET failed")
            for link in reads:
                link.send(encode("GET", key))
            for link in reads:
                got = link.reply()
                require(got == value, f"{key}: read {got!r} after {value!r} was acknowledged")
    return serial


@check(timeout=30)
def answered_writes_are_seen(context):
    """What one connection was told is stored, every other connection reads."""
    with context.serve() as server:
        counts = parallel(writer_and_readers, [(server.port, i, 3) for i in range(3)], 20)
    context.note(f"{sum(counts)} writes")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="order_check"))
