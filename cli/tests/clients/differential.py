"""Every command, option and error, sent to redis-server and to the server under test alike.

The cases stand in cases/*.txt and in generated_cases.py; replies are compared byte for byte. Each
case runs on a fresh keyspace with fresh connections: step by step in RESP2, step by step in RESP3,
and, where one connection does it all, as one RESP2 pipeline cut at random places.

A case file holds cases (`== name`) of steps, one a line. Tokens are separated by blanks; `"..."`
takes \\xHH, \\r, \\n, \\t, \\" and \\\\; `rep(x,N)` is x N times. Before the command may stand
`b:` or `c:` (another connection), and then one of

    ~N      integers in the reply may differ by N
    sorted  the order of an array does not matter
    scan    runs SCAN from 0 to 0 and compares what was found, whatever the order and the cursors
    hello   compares the field names of HELLO, and the fields that are not about the product
    kind    compares the type of the reply alone

A deadline that steps are to come before is at least 500 ms away: the machine may be busy.

Other steps: `sleep MS`; `raw N "bytes"`, which are sent as they are and have N replies; `closed`,
which waits for the server to close the connection.
"""

import collections
import glob
import os
import random
import re
import socket
import sys
import time

import generated_cases
from checks import check
from harness import CheckFailed, require
from resp import Closed, Connection, Expected, decode, encode

Case = collections.namedtuple("Case", "name steps")
Step = collections.namedtuple("Step", "text connection mode data replies")

CASES_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|rep\((.),(\d+)\)|(\S+)')
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", '"': b'"', "\\": b"\\"}
MODES = ("sorted", "scan", "hello", "kind")
HELLO_FIELDS_SHOWN = (b"proto", b"mode", b"role", b"modules")
FAILURES_SHOWN = 40


# ---- reading cases


def unescape(text):
    """The bytes of a quoted token."""
    def one(match):
        code = match[1]
        return bytes([int(code[1:], 16)]) if code[0] == "x" else ESCAPES[code]
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", lambda m: one([None, m[1].decode()]), text.encode())


def tokens(text):
    """The arguments of a step, as bytes."""
    result = []
    for quoted, repeated, count, plain in TOKEN.findall(text):
        if repeated:
            result.append(repeated.encode() * int(count))
        else:
            result.append(plain.encode() if plain else unescape(quoted))
    return result


def parse_step(text):
    """One line of a case."""
    match = re.fullmatch(r"(?:([abc]): )?(?:(~\d+|%s) )?(.*)" % "|".join(MODES), text)
    connection, mode, rest = match[1] or "a", match[2] or "", match[3]
    words = tokens(rest)
    if words[0] == b"sleep":
        return Step(text, connection, "sleep", int(words[1]), 0)
    if words == [b"closed"]:
        return Step(text, connection, "closed", b"", 0)
    if words[0] == b"raw":
        return Step(text, connection, mode, words[2], int(words[1]))
    if mode == "scan":
        return Step(text, connection, mode, words, 1)
    return Step(text, connection, mode, encode(*words), 1)


def parse_cases(lines):
    """Cases from the lines of a file."""
    cases = []
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            cases.append(Case(line[3:], []))
        else:
            cases[-1].steps.append(parse_step(line))
    return cases


def all_cases():
    """The files' cases, then the generated ones."""
    cases = []
    for path in sorted(glob.glob(os.path.join(CASES_DIRECTORY, "*.txt"))):
        with open(path, encoding="ascii") as file:
            for case in parse_cases(file):
                cases.append(case._replace(name=f"{os.path.basename(path)}: {case.name}"))
    return cases + parse_cases(generated_cases.lines())


# ---- comparing


def tolerant(value, tolerance):
    """A reply in which integers compare equal when they differ by at most `tolerance`."""
    if isinstance(value, list):
        return [tolerant(item, tolerance) for item in value]
    return Near(value, tolerance) if isinstance(value, int) else value


class Near:
    """An integer that equals its neighbours."""

    def __init__(self, value, tolerance):
        self.value, self.tolerance = value, tolerance

    def __eq__(self, other):
        # Negative answers of TTL (-1, -2) mean something else and have no neighbours.
        if self.value < 0 or other.value < 0:
            return self.value == other.value
        return abs(self.value - other.value) <= self.tolerance

    def __repr__(self):
        return f"{self.value}~{self.tolerance}"


def normalise(mode, frame):
    """What is compared of one reply."""
    if not mode or isinstance(frame, tuple):
        return frame
    if mode == "kind":
        return frame[:1]
    value = decode(frame)
    if mode.startswith("~"):
        return frame[:1], tolerant(value, int(mode[1:]))
    if mode == "sorted":
        return frame[:1], sorted(value) if isinstance(value, list) else value
    require(mode == "hello", mode)
    if isinstance(value, list):
        value = dict(zip(value[::2], value[1::2]))
    require(isinstance(value, dict), f"HELLO answered {value!r}")
    return frame[:1], [(k, v if k in HELLO_FIELDS_SHOWN else "...") for k, v in value.items()]


class Side:
    """One server and the connections of the running case."""

    def __init__(self, port):
        self.port = port
        self.connections = {}

    def begin(self, protocol):
        """A fresh keyspace and no connections."""
        self.end()
        self.protocol = protocol
        self.connection("a").ok("FLUSHALL")

    def connection(self, name):
        """The connection of that name, opened when first used."""
        if name not in self.connections:
            connection = Connection(self.port, timeout=5)
            self.connections[name] = connection
            if self.protocol == 3:
                connection.ok("HELLO", 3)
        return self.connections[name]

    def run(self, step):
        """The raw replies of one step, or what happened instead."""
        connection = self.connection(step.connection)
        try:
            if step.mode == "closed":
                connection.fill()
                return [("not closed but", bytes(connection.buffer))]
            if step.mode == "scan":
                return [self._scan(connection, step.data)]
            connection.send(step.data)
            return [normalise(step.mode, connection.frame()) for _ in range(step.replies)]
        except (Closed, ConnectionError) as end:
            return [("closed", getattr(end, "partial", b""))]
        except (CheckFailed, socket.timeout) as failure:
            return [("no reply", str(failure))]

    @staticmethod
    def _scan(connection, words):
        """What a whole iteration finds: keys in order, or the error."""
        cursor, found = b"0", set()
        for _ in range(100_000):
            reply = connection.call(words[0], cursor, *words[1:])
            if not isinstance(reply, list):
                return reply
            cursor = reply[0]
            found.update(reply[1])
            if cursor == b"0":
                return sorted(found)
        return "endless"

    def end(self):
        """Closes the connections."""
        for connection in self.connections.values():
            connection.close()
        self.connections = {}


def excerpt(replies):
    """Replies for a message."""
    return ", ".join(text if len(text) < 300 else text[:200] + "..." + text[-60:]
                     for text in map(repr, replies))


def is_broken(replies):
    """Whether a connection is of no more use."""
    return any(isinstance(reply, tuple) and reply[0] in ("closed", "no reply", "not closed but")
               for reply in replies)


def run_stepwise(case, referee, subject, protocol):
    """The differences of one case, each step sent to both servers in turn."""
    differences = []
    referee.begin(protocol)
    subject.begin(protocol)
    for step in case.steps:
        if step.mode == "sleep":
            time.sleep(step.data / 1000)
            continue
        want, got = referee.run(step), subject.run(step)
        require(want[0][:1] != ("no reply",), f"the referee does not answer {step.text}")
        if want != got:
            differences.append(f"{case.name} [RESP{protocol}]: {step.text}\n"
                               f"    want {excerpt(want)}\n    got  {excerpt(got)}")
            if is_broken(want) or is_broken(got):
                break
    return differences


def run_pipelined(case, referee, subject, generator):
    """The same in one pipeline, cut at random places."""
    if any(step.connection != "a" or step.mode for step in case.steps):
        return []
    payload = b"".join(step.data for step in case.steps)
    replies = sum(step.replies for step in case.steps)
    referee.begin(2)
    subject.begin(2)
    want = referee.connection("a")
    want.send(payload)
    expected = Expected().exact(b"".join(want.frame() for _ in range(replies)))
    cuts = (generator.choice((1, 2, 3, 7, 50, 1000, 20000)) for _ in iter(int, 1))
    try:
        subject.connection("a").exchange(payload, expected, cuts)
    except (CheckFailed, Closed) as failure:
        return [f"{case.name} [pipelined]: {failure}"]
    return []


@check(timeout=60)
def same_as_redis(context):
    """All cases, in all three ways."""
    generator = random.Random(context.seed)
    cases = all_cases()
    # The referee has the same limit, since CONFIG GET shows what policy follows from it.
    with (context.serve_referee(max_memory="256MiB") as referee_server,
          context.serve() as server):
        referee, subject = Side(referee_server.port), Side(server.port)
        differences = []
        for case in cases:
            for protocol in (2, 3):
                differences += run_stepwise(case, referee, subject, protocol)
            differences += run_pipelined(case, referee, subject, generator)
        referee.end()
        subject.end()
    steps = sum(len(case.steps) for case in cases)
    context.note(f"{len(cases)} cases, {steps} steps, {len(differences)} differences")
    if differences:
        more = len(differences) - FAILURES_SHOWN
        raise CheckFailed("\n".join(differences[:FAILURES_SHOWN])
                          + (f"\nand {more} more" if more > 0 else ""))


@check(timeout=20, shards=(1,))
def command_table_agrees(context):
    """COMMAND INFO: name, arity and key positions of every command, as redis-server has them."""
    with context.serve_referee() as referee_server, context.serve() as server:
        with Connection(referee_server.port) as referee, Connection(server.port) as subject:
            for name in generated_cases.COMMANDS:
                want, got = (c.ok("COMMAND", "INFO", name)[0] for c in (referee, subject))
                require(got is not None, f"COMMAND INFO {name}: nothing")
                for at, what in ((0, "name"), (1, "arity"), (3, "first key"), (4, "last key"),
                                 (5, "step")):
                    require(want[at] == got[at],
                            f"COMMAND INFO {name}: {what} {got[at]!r}, redis {want[at]!r}")
            listed = {bytes(name).upper().decode() for name in subject.ok("COMMAND", "LIST")
                      if b"|" not in name}
            missing = set(generated_cases.COMMANDS) - listed
            require(not missing, f"COMMAND LIST lacks {sorted(missing)}")
            count = subject.ok("COMMAND", "COUNT")
            require(count == len(listed), f"COMMAND COUNT {count}, LIST has {len(listed)}")


@check(timeout=20, shards=(1,), only="fulmar")
def other_commands_are_unknown(context):
    """Redis commands that do not exist here get Redis's error for unknown commands."""
    with context.serve_referee() as referee_server, context.serve() as server:
        with Connection(referee_server.port) as referee, Connection(server.port) as subject:
            for name in generated_cases.ABSENT_COMMANDS:
                # A name of the same length that redis-server does not know either.
                unknown = "?" * len(name)
                for arguments in ((), ("a",), ("a", "b", "c")):
                    referee.send(encode(unknown, *arguments))
                    subject.send(encode(name, *arguments))
                    want = referee.frame().replace(unknown.encode(), name.encode())
                    got = subject.frame()
                    require(want == got, f"{name} {arguments}: want {want!r}, got {got!r}")


@check(timeout=20, shards=(1,), only="fulmar")
def client_setinfo(context):
    """CLIENT SETINFO came with Redis 7.2, so that the packaged referee does not know it."""
    with context.serve() as server, Connection(server.port) as connection:
        for arguments in (("LIB-NAME", "redis-py"), ("lib-ver", "1.2.3"), ("LIB-NAME", "")):
            require(connection.call("CLIENT", "SETINFO", *arguments) == b"OK", str(arguments))
        for arguments, text in (
                (("lib-name", "a b"), "ERR lib-name cannot contain spaces, newlines or special "
                                      "characters."),
                (("BOGUS", "x"), "ERR Unrecognized option 'BOGUS'"),
                (("LIB-NAME",), "ERR wrong number of arguments for 'client|setinfo' command")):
            got = connection.call("CLIENT", "SETINFO", *arguments)
            require(got == text, f"CLIENT SETINFO {arguments}: {got!r}")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="differential"))
