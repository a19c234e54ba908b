"""Random commands, pipelined to redis-server and to the server under test; replies compared.

Few keys and few values, so that every command meets every state; three connections, so that
transactions, WATCH and QUIT meet each other. Deadlines are far away or have passed: time itself is
the matter of ttl.py. A difference prints the seed and the commands since the last flush.
"""

import collections
import random
import sys

from checks import check
from harness import CheckFailed
from resp import Connection, Frames, decode, encode

KEYS = [b"a", b"b", b"c", b"d", b"e", b"", b"key:1", b"key:2", b"{tag}1", b"{tag}2", b"\x00\r\n"]
VALUES = [b"", b"0", b"1", b"-1", b"10", b"abc", b"3.5", b"1e3", b" 1", b"9223372036854775806",
          b"-9223372036854775808", b"x" * 100, b"y" * 5000, b"z" * 16384, b"w" * 16385,
          b"v" * 40000, b"\xff\x00\r\n", b"0.1", b"00", b"hello world"]
NUMBERS = [b"0", b"1", b"-1", b"5", b"100", b"-100", b"9223372036854775807",
           b"-9223372036854775808", b"9223372036854775808", b"abc", b"", b"1.5"]
# Far away as seconds and as milliseconds, and refused ones.
FAR = [b"1000000", b"1000000000"]
REFUSED = [b"0", b"-1", b"abc", b"9223372036854775807"]
FLOATS = [b"0.1", b"0.2", b"-0.3", b"1.25", b"100", b"1e3", b"3.14159", b"-2.5", b"1e-5", b"abc"]
ROUNDS = 200
COMMANDS_PER_ROUND = 150
HISTORY_SHOWN = 25


class Generator:
    """Random commands from one seed; each is (arguments, how to compare the reply)."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def key(self):
        """One of few keys."""
        return self.random.choice(KEYS)

    def keys(self):
        """One to five keys, repeated ones too."""
        return [self.key() for _ in range(self.random.randint(1, 5))]

    def one(self, choices):
        """Any of them."""
        return self.random.choice(choices)

    def maybe(self, *arguments):
        """The arguments or nothing."""
        return list(arguments) if self.random.random() < 0.3 else []

    def pairs(self):
        """Keys and values in turn, sometimes one value short."""
        flat = [item for key in self.keys() for item in (key, self.one(VALUES))]
        return flat[:-1] if self.random.random() < 0.05 else flat

    def set_options(self):
        """Options of SET, mostly in a lawful choice."""
        options = self.maybe(b"GET") + self.maybe(self.one((b"NX", b"XX")))
        options += self.maybe(self.one((b"EX", b"PX", b"ex")), self.one(FAR * 2 + REFUSED))
        options += self.maybe(b"KEEPTTL") if self.random.random() < 0.5 else []
        self.random.shuffle(options) if self.random.random() < 0.1 else None
        return options

    def command(self):
        """One command of any kind."""
        number, value = self.one(NUMBERS), self.one(VALUES)
        table = [
            (9, lambda: ([b"SET", self.key(), value, *self.set_options()], "exact")),
            (6, lambda: ([b"GET", self.key()], "exact")),
            (2, lambda: ([b"GETSET", self.key(), value], "exact")),
            (2, lambda: ([b"GETDEL", self.key()], "exact")),
            (2, lambda: ([b"GETEX", self.key(), *self.maybe(b"EX", self.one(FAR)),
                          *self.maybe(b"PERSIST")], "exact")),
            (2, lambda: ([b"SETNX", self.key(), value], "exact")),
            (1, lambda: ([b"SETEX", self.key(), self.one(FAR), value], "exact")),
            (1, lambda: ([b"PSETEX", self.key(), self.one(FAR + REFUSED), value], "exact")),
            (3, lambda: ([b"MGET", *self.keys()], "exact")),
            (3, lambda: ([b"MSET", *self.pairs()], "exact")),
            (2, lambda: ([b"MSETNX", *self.pairs()], "exact")),
            (2, lambda: ([b"STRLEN", self.key()], "exact")),
            (3, lambda: ([b"APPEND", self.key(), value], "exact")),
            (3, lambda: ([b"GETRANGE", self.key(), number, self.one(NUMBERS)], "exact")),
            (2, lambda: ([b"SETRANGE", self.key(), self.one((b"0", b"3", b"500", b"20000", b"-1")),
                          value], "exact")),
            (3, lambda: ([self.one((b"INCR", b"DECR")), self.key()], "exact")),
            (3, lambda: ([self.one((b"INCRBY", b"DECRBY")), self.key(), number], "exact")),
            (3, lambda: ([b"INCRBYFLOAT", self.key(), self.one(FLOATS)], "exact")),
            (3, lambda: ([self.one((b"DEL", b"UNLINK")), *self.keys()], "exact")),
            (2, lambda: ([self.one((b"EXISTS", b"TOUCH")), *self.keys()], "exact")),
            (1, lambda: ([b"TYPE", self.key()], "exact")),
            (3, lambda: ([self.one((b"EXPIRE", b"PEXPIRE")), self.key(),
                          self.one(FAR * 2 + REFUSED),
                          *self.maybe(self.one((b"NX", b"XX", b"nx")))], "exact")),
            (2, lambda: ([self.one((b"EXPIREAT", b"PEXPIREAT")), self.key(),
                          self.one((b"33177117420", b"33177117421", b"1")),
                          *self.maybe(self.one((b"GT", b"LT", b"xx")))], "exact")),
            (2, lambda: ([self.one((b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME")),
                          self.key()], "near")),
            (2, lambda: ([b"PERSIST", self.key()], "exact")),
            (1, lambda: ([b"KEYS", self.one((b"*", b"key:*", b"?", b"[a-c]", b"{*"))], "sorted")),
            (1, lambda: ([b"DBSIZE"], "exact")),
            (3, lambda: ([b"MULTI"], "exact")),
            (4, lambda: ([b"EXEC"], "near")),
            (1, lambda: ([b"DISCARD"], "exact")),
            (2, lambda: ([b"WATCH", *self.keys()], "exact")),
            (1, lambda: ([b"UNWATCH"], "exact")),
            (1, lambda: ([self.one((b"NOSUCH", b"GET", b"SET", b"EXPIRE"))], "exact")),
            (1, lambda: ([b"PING"], "exact")),
        ]
        if self.random.random() < 0.004:
            return [self.one((b"FLUSHALL", b"FLUSHDB"))], "exact"
        return self.random.choices([make for _, make in table], [w for w, _ in table])[0]()


def same(want, got, how):
    """Whether two replies say the same, given that the two servers' clocks are moments apart."""
    if want == got or how == "exact":
        return want == got
    if how == "sorted":
        return sorted(decode(want)) == sorted(decode(got))
    return near(decode(want), decode(got))


def near(want, got):
    """Equal, but for the last digits of far deadlines and the order of arrays of names."""
    if isinstance(want, list) and isinstance(got, list):
        if want and all(isinstance(item, bytes) for item in want + got):
            return sorted(want) == sorted(got)
        return len(want) == len(got) and all(map(near, want, got))
    if type(want) is int and type(got) is int and want > 900 and got > 900:
        # 1,000,000 ms are 1,000 s or, a moment later, 999.
        return abs(want - got) <= (5000 if want > 50_000 else 2 if want <= 1000 else 0)
    return want == got


def run_rounds(context, protocol, seed, rounds):
    """Random rounds; each sends a burst on one of three connections and compares."""
    generator = Generator(seed)
    total = 0
    with (context.serve_referee() as referee, context.serve() as server):
        sides = [[Connection(port) for _ in range(3)] for port in (referee.port, server.port)]
        if protocol == 3:
            for connection in sides[0] + sides[1]:
                connection.ok("HELLO", 3)
        history = collections.deque(maxlen=HISTORY_SHOWN)
        for _ in range(rounds):
            which = generator.random.randrange(3)
            # Without a pause inside a burst, all of a connection's commands go as one pipeline.
            burst = [generator.command()
                     for _ in range(generator.random.randint(1, COMMANDS_PER_ROUND))]
            payload = b"".join(encode(*arguments) for arguments, _ in burst)
            want, got = (side[which].exchange(payload, Frames(len(burst))).frames
                         for side in sides)
            for (arguments, how), wanted, given in zip(burst, want, got):
                history.append((which, arguments))
                if not same(wanted, given, how):
                    raise CheckFailed(
                        f"seed {seed}, RESP{protocol}: want {wanted[:200]!r}, "
                        f"got {given[:200]!r} for the last of:\n"
                        + "\n".join(f"  {c}: {str(a)[:160]}" for c, a in history))
            total += len(burst)
        for connection in sides[0] + sides[1]:
            connection.close()
    return total


@check(timeout=60)
def random_resp2(context):
    """RESP2."""
    total = run_rounds(context, 2, context.seed, ROUNDS * (20 if context.long else 1))
    context.note(f"{total} commands, seed {context.seed}")


@check(timeout=60)
def random_resp3(context):
    """RESP3."""
    total = run_rounds(context, 3, context.seed + 1, ROUNDS * (20 if context.long else 1))
    context.note(f"{total} commands, seed {context.seed + 1}")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="random_commands"))
