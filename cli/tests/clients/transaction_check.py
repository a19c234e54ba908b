"""Nothing is torn: MULTI/EXEC, WATCH and multi-key commands over several shards, under load.

Writers and readers are processes of their own on connections of all cores. Keys are many, so that
each transaction touches every shard and takes long enough for another core to come in between,
if the server let it.
"""

import random
import socket
import struct
import sys
import time

from checks import check, parallel, still_serves
from harness import require
from resp import Closed, Connection, ErrorReply, encode

KEYS = [f"torn:{i}" for i in range(32)]
ACCOUNTS = [f"account:{i}" for i in range(12)]
FUNDS = 1000


def shuffled(generator, keys):
    """The keys in another order."""
    return generator.sample(keys, len(keys))


def transaction(commands):
    """The bytes of MULTI, the commands, EXEC."""
    return encode("MULTI") + b"".join(encode(*c) for c in commands) + encode("EXEC")


def execute(connection, commands):
    """Runs a transaction in one pipeline; its replies, or None if a watched key had changed."""
    connection.send(transaction(commands))
    require(connection.reply() == b"OK", "MULTI failed")
    for command in commands:
        reply = connection.reply()
        require(reply == b"QUEUED", f"{command}: {reply}")
    return connection.reply()


# ---- writers and readers of equal keys


def write_equal(port, name, seconds, stop_at):
    """Sets all keys to one number, in every way that must be atomic."""
    generator, count, end = random.Random(name), 0, time.monotonic() + seconds
    links = [Connection(port) for _ in range(3)]
    while time.monotonic() < end and count < stop_at:
        count += 1
        value, keys, link = f"{name}:{count}", shuffled(generator, KEYS), generator.choice(links)
        if generator.random() < 0.5:
            replies = execute(link, [("SET", key, value) for key in keys])
            require(replies == [b"OK"] * len(keys), f"EXEC answered {replies!r:.200}")
        else:
            require(link.call("MSET", *(x for key in keys for x in (key, value))) == b"OK", "MSET")
    return count


def read_equal(port, name, seconds):
    """Reads all keys, in every way that must be atomic: one number, whatever it is."""
    generator, count, end = random.Random(name), 0, time.monotonic() + seconds
    links = [Connection(port) for _ in range(3)]
    for link in links[1:]:
        link.ok("HELLO", 3)
    while time.monotonic() < end:
        count += 1
        keys, link = shuffled(generator, KEYS), generator.choice(links)
        kind = generator.randrange(3)
        if kind == 0:
            values = link.call("MGET", *keys)
        elif kind == 1:
            values = execute(link, [("GET", key) for key in keys])
        else:
            half = len(keys) // 2
            parts = execute(link, [("MGET", *keys[:half]), ("MGET", *keys[half:])])
            values = parts[0] + parts[1]
        require(not isinstance(values, ErrorReply), f"error: {values}")
        require(len(set(values)) == 1, f"torn after {count} reads: {sorted(set(values), key=str)}")
    return count


@check(timeout=45)
def no_torn_reads(context):
    """Readers of 32 keys see what one writer wrote, never a mixture."""
    seconds = 60 if context.long else 4
    with context.serve() as server:
        jobs = [(read_equal, server.port, f"r{i}", seconds) for i in range(2)]
        jobs += [(write_equal, server.port, f"w{i}", seconds, 10**9) for i in range(2)]
        counts = parallel(lambda f, *arguments: f(*arguments), jobs, seconds + 20)
    context.note(f"{sum(counts[:2])} reads against {sum(counts[2:])} writes of {len(KEYS)} keys")


# ---- all or none


def race_for_keys(port, name, rounds):
    """MSETNX of overlapping sets of keys, one generation after the other: who won which."""
    generator, won = random.Random(name), []
    with Connection(port) as link:
        for number in range(rounds):
            # Every set of 5 out of 8 meets every other, so at most one of them can win.
            keys = [f"race:{number}:{i}" for i in generator.sample(range(8), 5)]
            if link.call("MSETNX", *(x for key in keys for x in (key, name))) == 1:
                won.append((number, keys))
    return won


@check(timeout=30)
def msetnx_has_one_winner(context):
    """Overlapping MSETNX: exactly one wins, and all its keys are its own."""
    rounds = 20_000 if context.long else 1500
    with context.serve() as server:
        names = [f"n{i}" for i in range(3)]
        results = parallel(race_for_keys, [(server.port, name, rounds) for name in names], 25)
        with Connection(server.port) as link:
            winners = {}
            for name, won in zip(names, results):
                for number, keys in won:
                    require(number not in winners, f"round {number} has two winners")
                    winners[number] = name
                    values = link.call("MGET", *keys)
                    require(set(values) == {name.encode()}, f"{name} won, but found {values}")
            require(len(winners) == rounds, f"{rounds - len(winners)} rounds without a winner")
            require(link.call("DBSIZE") == 5 * rounds, "a loser left keys")


def flip(port, seconds):
    """Creates and deletes all keys, each time all at once."""
    count, end = 0, time.monotonic() + seconds
    pairs = [x for key in KEYS for x in (key, "x")]
    with Connection(port) as link:
        while time.monotonic() < end:
            count += 1
            require(link.call("MSETNX", *pairs) == 1, "a deleted key is there")
            require(link.call("DEL", *KEYS) == len(KEYS), "a key is gone that nobody deleted")
    return count


def count_flipped(port, name, seconds):
    """Sees all keys or none."""
    generator, end, seen = random.Random(name), time.monotonic() + seconds, [0, 0]
    with Connection(port) as link:
        while time.monotonic() < end:
            keys = shuffled(generator, KEYS)
            kind = generator.randrange(3)
            if kind == 0:
                found = link.call("EXISTS", *keys)
            elif kind == 1:
                found = link.call("DBSIZE")
            else:
                found = sum(execute(link, [("EXISTS", key) for key in keys]))
            require(found in (0, len(keys)), f"{found} of {len(keys)} keys exist")
            seen[found != 0] += 1
    return seen


@check(timeout=30)
def created_and_deleted_at_once(context):
    """MSETNX and DEL of 32 keys: EXISTS, DBSIZE and transactions see all or none."""
    seconds = 30 if context.long else 3
    with context.serve() as server:
        jobs = [(flip, server.port, seconds)]
        jobs += [(count_flipped, server.port, f"c{i}", seconds) for i in range(2)]
        results = parallel(lambda f, *arguments: f(*arguments), jobs, seconds + 15)
    none, whole = (sum(seen[i] for seen in results[1:]) for i in (0, 1))
    require(none and whole, "the readers met one state only")
    context.note(f"{results[0]} flips, seen {none} times absent and {whole} times present")


# ---- optimistic locking


def count_up(port, name, rounds):
    """Adds one to a counter by WATCH, GET, MULTI, SET, EXEC; and one to another by INCR."""
    retries = 0
    with Connection(port) as link:
        for _ in range(rounds):
            while True:
                require(link.call("WATCH", "counter") == b"OK", "WATCH")
                value = int(link.call("GET", "counter") or 0)
                replies = execute(link, [("SET", "counter", value + 1), ("INCR", "increments"),
                                         ("APPEND", f"log:{name}", "x")])
                if replies is not None:
                    require(replies[0] == b"OK", f"EXEC answered {replies}")
                    break
                retries += 1
            require(isinstance(link.call("INCR", "plain"), int), "INCR")
    return retries


@check(timeout=45)
def watched_counters_are_exact(context):
    """No lost update: the counter is the number of successful EXECs."""
    clients, rounds = 4, 5000 if context.long else 400
    with context.serve() as server:
        retries = parallel(count_up, [(server.port, f"c{i}", rounds) for i in range(clients)], 40)
        with Connection(server.port) as link:
            values = link.call("MGET", "counter", "increments", "plain")
            require(values == [str(clients * rounds).encode()] * 3,
                    f"{clients} clients added {rounds} each: {values}")
            for i in range(clients):
                require(link.call("STRLEN", f"log:c{i}") == rounds, "a log lacks entries")
    require(sum(retries), "no EXEC ever failed: the clients did not meet")
    context.note(f"{sum(retries)} retries for {clients * rounds} increments")


def transfer(port, name, seconds):
    """Moves money between accounts of different shards, by WATCH."""
    generator, moved, end = random.Random(name), 0, time.monotonic() + seconds
    with Connection(port) as link:
        while time.monotonic() < end:
            source, target = generator.sample(ACCOUNTS, 2)
            link.ok("WATCH", source, target)
            held, other = (int(link.call("GET", key)) for key in (source, target))
            amount = generator.randint(1, 50)
            if held < amount:
                link.ok("UNWATCH")
                continue
            done = execute(link, [("SET", source, held - amount), ("SET", target, other + amount)])
            moved += done is not None
    return moved


def audit(port, seconds):
    """The sum over all accounts is the same at every moment."""
    count, end = 0, time.monotonic() + seconds
    with Connection(port) as link:
        while time.monotonic() < end:
            count += 1
            values = (link.call("MGET", *ACCOUNTS) if count % 2 else
                      execute(link, [("GET", key) for key in ACCOUNTS]))
            total = sum(map(int, values))
            require(total == FUNDS * len(ACCOUNTS), f"{total} instead of {FUNDS * len(ACCOUNTS)}")
            require(min(map(int, values)) >= 0, f"overdrawn: {values}")
    return count


@check(timeout=30)
def transfers_keep_the_sum(context):
    """WATCH over several shards: no money made or lost, none seen twice."""
    seconds = 60 if context.long else 3
    with context.serve() as server:
        with Connection(server.port) as link:
            link.ok("MSET", *(x for key in ACCOUNTS for x in (key, FUNDS)))
        jobs = [(transfer, server.port, f"t{i}", seconds) for i in range(3)]
        jobs += [(audit, server.port, seconds)]
        results = parallel(lambda f, *arguments: f(*arguments), jobs, seconds + 15)
    require(sum(results[:3]), "nothing was moved")
    context.note(f"{sum(results[:3])} transfers, {results[3]} audits")


# ---- clients that vanish


def vanish(port, name, seconds):
    """Goes away in the middle of transactions, in every ungraceful way."""
    generator, count, end = random.Random(name), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        count += 1
        link = Connection(port)
        whole = transaction([("SET", key, "from a ghost") for key in KEYS])
        before_exec = whole[:-len(encode("EXEC"))]
        kind = generator.randrange(4)
        if kind == 0:
            link.send(before_exec)
        elif kind == 1:
            link.send(encode("WATCH", *KEYS) + before_exec)
        elif kind == 2:
            link.send(whole[:generator.randrange(len(before_exec))])
        else:
            link.send(encode("WATCH", *KEYS))
            link.frame()
        if generator.random() < 0.5:
            # A reset instead of an orderly end.
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()
    return count


@check(timeout=45)
def vanished_clients_hold_nothing(context):
    """Ghosts between MULTI and EXEC change nothing and stop nobody."""
    seconds = 30 if context.long else 3
    with context.serve() as server:
        with Connection(server.port) as link:
            link.ok("MSET", *(x for key in KEYS for x in (key, "start")))
        jobs = [(vanish, server.port, f"v{i}", seconds) for i in range(2)]
        jobs += [(write_equal, server.port, "w", seconds, 10**9)]
        jobs += [(read_equal, server.port, "r", seconds)]
        results = parallel(lambda f, *arguments: f(*arguments), jobs, seconds + 20)
        with Connection(server.port) as link:
            values = set(link.call("MGET", *KEYS))
            require(len(values) == 1 and b"from a ghost" not in values, f"found {values}")
        still_serves(server.port)
    context.note(f"{sum(results[:2])} ghosts beside {results[2]} writes and {results[3]} reads")


@check(timeout=30)
def exec_without_reading(context):
    """A whole transaction whose sender leaves at once takes place entirely or not at all."""
    with context.serve() as server:
        with Connection(server.port) as link:
            for number in range(200):
                keys = [f"left:{number}:{i}" for i in range(16)]
                ghost = Connection(server.port)
                ghost.send(transaction([("SET", key, "x") for key in keys]))
                ghost.close()
                found = link.call("EXISTS", *keys)
                require(found in (0, 16), f"{found} of 16 keys are there")


@check(timeout=30)
def transaction_across_a_closing_pipeline(context):
    """QUIT inside a pipeline with transactions: what stands before it is answered, no more."""
    with context.serve() as server, Connection(server.port) as link:
        link.send(transaction([("SET", key, "1") for key in KEYS]) + encode("MULTI")
                  + encode("SET", KEYS[0], "2") + encode("QUIT") + encode("PING"))
        require(link.reply() == b"OK", "MULTI")
        for _ in KEYS:
            require(link.reply() == b"QUEUED", "not queued")
        require(link.reply() == [b"OK"] * len(KEYS), "EXEC")
        require([link.reply() for _ in range(3)] == [b"OK", b"QUEUED", b"OK"], "MULTI, SET, QUIT")
        try:
            require(False, f"after QUIT: {link.reply()}")
        except Closed as end:
            require(not end.partial, f"after QUIT: {end.partial}")
        with Connection(server.port) as other:
            require(other.call("GET", KEYS[0]) == b"1", "a queued SET was run")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="transaction_check"))
