"""Cases of differential.py that follow a rule: option products, arities, modified-key rules."""

import itertools

# Every command that the server has, in upper case.
COMMANDS = """PING ECHO QUIT HELLO SELECT CLIENT COMMAND CONFIG INFO DBSIZE FLUSHALL FLUSHDB TIME
GET SET GETSET GETDEL GETEX SETNX SETEX PSETEX MGET MSET MSETNX STRLEN APPEND GETRANGE SETRANGE
INCR DECR INCRBY DECRBY INCRBYFLOAT DEL UNLINK EXISTS TOUCH TYPE EXPIRE PEXPIRE EXPIREAT PEXPIREAT
TTL PTTL EXPIRETIME PEXPIRETIME PERSIST RANDOMKEY SCAN KEYS MULTI EXEC DISCARD WATCH
UNWATCH CLUSTER READONLY READWRITE ASKING WAIT""".split()

# Some that Redis has and a cache of strings has not.
ABSENT_COMMANDS = """LPUSH RPUSH LPOP LRANGE SADD SMEMBERS HSET HGET HGETALL ZADD ZRANGE XADD EVAL
SUBSCRIBE PUBLISH PSUBSCRIBE BITCOUNT SETBIT PFADD GEOADD SORT MIGRATE BGSAVE SAVE MONITOR SLAVEOF
SHUTDOWN""".split()

# Their replies with free arguments are about the product or the moment, or they are tested apart.
NOT_SWEPT = {"COMMAND", "INFO", "TIME", "HELLO", "RANDOMKEY", "CLIENT", "CONFIG"}


def arities():
    """Each command with 0 to 6 arguments, and in a transaction."""
    for name in COMMANDS:
        if name in NOT_SWEPT:
            continue
        for count in range(7):
            yield f"== arity: {name} with {count} arguments"
            yield "SET x 1"
            yield f"{name} {'x ' * count}".rstrip()
            if name == "QUIT":
                yield "closed"
                continue
            yield "MULTI"
            if not (name == "MULTI" and count == 0):
                yield f"{name} {'x ' * count}".rstrip()
            yield "EXEC"
            yield "sorted KEYS *"


def set_options():
    """SET with every choice of up to three options, on an absent, a present and a dying key."""
    options = ["NX", "XX", "GET", "EX 100", "PX 100000", "EXAT 33177117420", "KEEPTTL", "EX 0",
               "PXAT 1", "EX"]
    for before in ("DEL k", "SET k old", "SET k old EX 1000"):
        yield f"== set options after {before}"
        for count in range(4):
            for choice in itertools.permutations(options, count):
                if count == 3 and choice[0] > choice[1]:
                    continue  # two orders of three say enough
                yield before
                yield "SET k new " + " ".join(choice) if choice else "SET k new"
                yield "GET k"
                yield "~2 TTL k"


def getex_options():
    """GETEX with every choice of up to two options."""
    options = ["EX 100", "PX 100000", "EXAT 33177117420", "PXAT 1", "PERSIST", "EX 0", "PX"]
    yield "== getex options"
    for before in ("DEL k", "SET k old", "SET k old EX 1000"):
        for count in range(3):
            for choice in itertools.permutations(options, count):
                yield before
                yield "GETEX k " + " ".join(choice) if choice else "GETEX k"
                yield "~2 TTL k"


def expire_options():
    """The EXPIRE family with every choice of conditions."""
    times = {"EXPIRE": ("50", "500", "-1"), "PEXPIRE": ("50000", "500000", "0"),
             "EXPIREAT": ("33177117420", "1"), "PEXPIREAT": ("33177117420123", "1")}
    for name, values in times.items():
        yield f"== conditions of {name}"
        for before in ("DEL k", "SET k v", "SET k v EX 100"):
            for value, count in itertools.product(values, range(4)):
                for choice in itertools.combinations(("NX", "XX", "GT", "LT"), count):
                    yield before
                    yield f"{name} k {value} {' '.join(choice)}".rstrip()
                    yield "~2 TTL k"


def ranges():
    """GETRANGE and SETRANGE around the ends."""
    yield "== every range of a short value"
    yield "SET k hello"
    for start, end in itertools.product(range(-7, 8), repeat=2):
        yield f"GETRANGE k {start} {end}"
    for offset in range(9):
        yield "SET k hello"
        yield f"SETRANGE k {offset} XY"
        yield "GET k"


def integers():
    """Texts that are, or almost are, integers: as a value, as an increment, as a TTL."""
    texts = ["0", "-0", "00", "01", "1", "-1", "+1", "1.", "1.0", "1e3", '" 1"', '"1 "',
             '"1\\n"', '"\\x001"', '""', "-", "+", "--1", "9223372036854775807",
             "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
             "18446744073709551615", "18446744073709551616", "1234567890123456789012",
             "rep(9,300)", "inf", "nan", "abc"]
    yield "== almost integers"
    for text in texts:
        yield f"SET k {text}"
        yield "INCR k"
        yield f"SET k {text}"
        yield "DECRBY k 1"
        yield f"SET k {text}"
        yield "INCRBYFLOAT k 1"
        yield "SET k 1"
        for command in ("INCRBY", "DECRBY", "INCRBYFLOAT"):
            yield f"{command} k {text}"
            yield "SET k 1"
        yield f"GETRANGE k {text} -1"
        yield f"SELECT {text}"
        yield "SELECT 0"
        yield f"SCAN 0 COUNT {text}" if text != "1" else "PING"


def modified_keys():
    """What counts as modifying a watched key: EXEC fails exactly when it does."""
    present = ["GET k", "SET k v", "SET k w", "SET k w NX", "SET k w XX", "SET k w GET",
               "SET k w PXAT 1", "GETSET k w", "GETDEL k", "GETEX k", "GETEX k EX 100",
               "GETEX k PERSIST", "GETEX k PXAT 1", "SETNX k w", "SETEX k 100 w", "MSET k w j w",
               "MSET j w", "MSETNX k w j w", "STRLEN k", "APPEND k x", 'APPEND k ""',
               "SETRANGE k 0 x", 'SETRANGE k 0 ""', "GETRANGE k 0 -1", "INCR k", "INCRBYFLOAT k 1",
               "DEL k", "DEL j", "UNLINK k", "EXISTS k", "TOUCH k", "TYPE k", "EXPIRE k 100",
               "EXPIRE k 100 XX", "EXPIRE k -1", "PERSIST k", "TTL k", "RANDOMKEY", "SCAN 0",
               "FLUSHALL", "FLUSHDB", "KEYS *", "DBSIZE", "SET k", "NOSUCH k", "SET k w EX abc"]
    for before in ("DEL k", "SET k v", "SET k 5", "SET k 5 EX 1000"):
        for action in present:
            yield f"== modified key: {before}, then {action}"
            yield before
            yield "WATCH k"
            mode = "kind " if action == "RANDOMKEY" else ""
            yield f"b: {mode}{action}"
            yield "MULTI"
            yield "PING"
            yield "EXEC"
            yield "GET k"
            yield "WATCH k"
            yield "b: MULTI"
            yield f"b: {action}"
            yield ("b: kind EXEC")
            yield "MULTI"
            yield "PING"
            yield "EXEC"


def subcommands():
    """Subcommands without, and with too many, arguments."""
    yield "== arity of subcommands"
    for line in ("CLIENT ID", "CLIENT SETNAME", "CLIENT GETNAME", "CLIENT INFO",
                 "CLIENT NO-EVICT", "COMMAND COUNT", "COMMAND GETKEYS", "CONFIG GET", "CONFIG SET",
                 "CONFIG RESETSTAT", "CLIENT HELP", "COMMAND HELP", "CONFIG HELP"):
        for count in range(4):
            yield f"kind {line} {'x ' * count}".rstrip()
            if count == 3 and not line.endswith(("GET", "GETKEYS", "SET")):
                yield f"{line} x x x"
    for name in ("CLIENT", "COMMAND", "CONFIG"):
        yield f"{name} rep(x,200)"
        yield f"{name} BOGUS a b c"
        yield f"{name} \"\""
        yield f"{name.lower()} bogus"


def many_keys():
    """Commands on more keys than are dealt with at a time, also queued and pipelined."""
    def keys(count, step=1):
        return " ".join(f"k{number * step}" for number in range(count))
    pairs = " ".join(f"k{number} v{number}" for number in range(0, 2600, 2))
    for count in (1023, 1024, 1025, 2048, 2049, 2600):
        yield f"== {count} keys"
        yield f"MSET {pairs}"
        yield f"MGET {keys(count)}"
        yield f"EXISTS {keys(count)} k0 k0 k1"
        yield f"TOUCH {keys(count)}"
        yield "sorted KEYS *"
        yield "sorted KEYS k1*0"
        yield "KEYS nothing*"
        yield f"DEL {keys(count // 2, 3)} k0"
        yield "DBSIZE"
        yield f"UNLINK {keys(count)} {keys(10)}"
        yield f"MGET {keys(count)}"
        yield "MULTI"
        yield f"MSET {pairs}"
        yield f"EXISTS {keys(count)}"
        yield f"DEL {keys(count)}"
        yield "sorted KEYS *"
        yield "kind EXEC"
        yield "DBSIZE"
    yield "== a key that is watched"
    yield "MSET k1 a k5 b"
    yield "WATCH k5"
    yield f"DEL {keys(2000)}"
    yield "MULTI"
    yield "PING"
    yield "EXEC"


def lines():
    """All generated cases, in the format of a case file."""
    for part in (arities, set_options, getex_options, expire_options, ranges, integers,
                 modified_keys, subcommands, many_keys):
        yield from part()
