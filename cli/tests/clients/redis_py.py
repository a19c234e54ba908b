"""redis-py, the usual Python client, unmodified: its commands, pipelines, locks and pools."""

import sys
import threading
import time

from checks import check
from harness import CheckFailed, Skip, require, wait_until

try:
    import redis
except ImportError:
    redis = None


def client(server, **options):
    """A client with redis-py's defaults, but for a timeout."""
    if redis is None:
        raise Skip("redis-py is not installed for this Python (pip install redis)")
    return redis.Redis(host="127.0.0.1", port=server.port, socket_timeout=10, **options)


def both_protocols(server):
    """A client for RESP2 and one for RESP3."""
    for protocol in (2, 3):
        connected = client(server, protocol=protocol)
        connected.flushall()
        yield connected
        connected.close()


def equal(got, want, what=""):
    """Fails unless two values are equal."""
    require(got == want, f"{what}: got {got!r:.300}, want {want!r:.300}")


def raises(kind, function, text=""):
    """Fails unless the call raises that error."""
    try:
        got = function()
    except kind as error:
        require(text in str(error), f"{error} lacks {text}")
        return
    raise CheckFailed(f"no {kind.__name__} but {got!r}")


@check(timeout=30)
def strings(context):
    """Every string command through the client's own methods."""
    with context.serve() as server:
        for r in both_protocols(server):
            equal(r.ping(), True)
            equal(r.echo("hello"), b"hello")
            equal(r.set("k", "v"), True)
            equal(r.get("k"), b"v")
            equal(r["k"], b"v")
            equal("k" in r, True)
            equal(r.get("none"), None)
            equal(r.set("k", "w", nx=True), None)
            equal(r.set("k", "w", xx=True, get=True), b"v")
            equal(r.set("k", "x", ex=100), True)
            equal(r.set("k", "y", keepttl=True), True)
            equal(99 <= r.ttl("k") <= 100, True, "ttl")
            equal(r.set("k", "y", px=100_000), True)
            equal(r.set("k", "y", exat=33177117420), True)
            equal(r.expiretime("k"), 33177117420)
            equal(r.set("k", "y", pxat=33177117420123), True)
            equal(r.pexpiretime("k"), 33177117420123)
            equal(r.getset("k", "z"), b"y")
            equal(r.getex("k", ex=50), b"z")
            equal(r.getex("k", persist=True), b"z")
            equal(r.ttl("k"), -1)
            equal(r.getdel("k"), b"z")
            equal(r.setnx("k", "1"), True)
            equal(r.setnx("k", "2"), False)
            equal(r.setex("k", 100, "v"), True)
            equal(r.psetex("k", 100_000, "v"), True)
            equal(r.mset({"a": 1, "b": b"\x00\r\n", "c": 1.5}), True)
            equal(r.mget("a", "b", "c", "none"), [b"1", b"\x00\r\n", b"1.5", None])
            equal(r.msetnx({"a": 1, "new": 2}), False)
            equal(r.msetnx({"new": 2, "new2": 3}), True)
            equal(r.strlen("b"), 3)
            equal(r.append("b", "tail"), 7)
            equal(r.getrange("b", 3, -1), b"tail")
            equal(r.setrange("b", 0, "XY"), 7)
            equal(r.get("b"), b"XY\ntail")
            equal(r.incr("n"), 1)
            equal(r.incrby("n", 10), 11)
            equal(r.decr("n", 5), 6)
            equal(r.decrby("n", 7), -1)
            equal(r.incrbyfloat("f", 10.5), 10.5)
            equal(r.incrbyfloat("f", 0.1), 10.6)
            raises(redis.ResponseError, lambda: r.incr("b"), "not an integer")
            raises(redis.ResponseError, lambda: r.execute_command("NOSUCH"), "unknown command")
            raises(redis.ResponseError, lambda: r.execute_command("GET"), "wrong number of")


@check(timeout=30)
def keys(context):
    """Every command on keys, the keyspace and the server."""
    with context.serve() as server:
        for r in both_protocols(server):
            r.mset({f"key:{i}": i for i in range(1000)})
            equal(r.dbsize(), 1000)
            equal(r.exists("key:1", "key:2", "none", "key:1"), 3)
            equal(r.delete("key:0", "none"), 1)
            equal(r.unlink("key:1"), 1)
            equal(r.touch("key:2", "none"), 1)
            equal(r.type("key:2"), b"string")
            equal(r.type("none"), b"none")
            equal(r.expire("key:2", 100), True)
            equal(r.expire("key:2", 50, gt=True), False)
            equal(r.expire("key:2", 50, lt=True), True)
            equal(r.pexpire("key:2", 100_000, nx=True), False)
            equal(r.expireat("key:2", 33177117420), True)
            equal(r.pexpireat("key:2", 33177117420123, xx=True), True)
            equal(r.pttl("key:2") > 10**12, True)
            equal(r.persist("key:2"), True)
            equal(r.ttl("none"), -2)
            equal(r.randomkey().startswith(b"key:"), True)
            names = {f"key:{i}".encode() for i in range(2, 1000)}
            equal(set(r.keys("*")), names)
            equal(set(r.scan_iter()), names)
            equal(set(r.scan_iter(match="key:99*", count=7)), {n for n in names
                                                              if n.startswith(b"key:99")})
            equal(set(r.scan_iter(_type="string")), names)
            equal(list(r.scan_iter(_type="list")), [])
            seconds, micros = r.time()
            equal(abs(seconds - time.time()) < 5 and 0 <= micros < 10**6, True, "TIME")
            equal(r.info()["role"], "master")
            wait_until(lambda: r.info("keyspace")["db0"]["keys"] == 998, 1, "INFO keyspace")
            equal(r.config_get("maxmemory")["maxmemory"], str(256 << 20))
            equal(r.config_resetstat(), True)
            equal(r.command_count() > 50, True)
            equal(r.command()["get"]["arity"], 2)
            equal(r.flushdb(), True)
            equal(r.set("a", 1) and r.flushall(asynchronous=True), True)
            equal(r.dbsize(), 0)
            equal(r.select(0), True)


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def clients(context):
    """CLIENT commands, names, decoded responses, protocols and URLs."""
    with context.serve() as server:
        for protocol in (2, 3):
            r = client(server, protocol=protocol, client_name="checker", decode_responses=True)
            equal(r.client_getname(), "checker")
            equal(r.client_setname("renamed"), True)
            equal(r.client_id() > 0, True)
            equal(r.client_info()["name"], "renamed")
            equal([c["name"] for c in r.client_list() if int(c["id"]) == r.client_id()],
                  ["renamed"])
            equal(r.client_no_evict("ON"), "OK")
            r.set("k", "gr\u00fc\u00dfe")
            equal(r.get("k"), "gr\u00fc\u00dfe")
            r.close()
        r = redis.from_url(f"redis://127.0.0.1:{server.port}/0?protocol=3")
        equal(r.ping(), True)
        r.close()
        raises(redis.RedisError, lambda: client(server, db=1).ping())


@check(timeout=30)
def pipelines(context):
    """The default pipeline (a transaction), the plain one, and errors in both."""
    with context.serve() as server:
        for r in both_protocols(server):
            for transaction in (True, False):
                with r.pipeline(transaction=transaction) as pipe:
                    for i in range(500):
                        pipe.set(f"k{i}", i).get(f"k{i}").incr(f"k{i}")
                    replies = pipe.execute()
                want = [x for i in range(500) for x in (True, str(i).encode(), i + 1)]
                equal(replies, want, f"pipeline, transaction={transaction}")
                pipe = r.pipeline(transaction=transaction)
                pipe.set("k", "text").incr("k").get("k")
                replies = pipe.execute(raise_on_error=False)
                equal(isinstance(replies[1], redis.ResponseError), True, str(replies))
                equal((replies[0], replies[2]), (True, b"text"))
                pipe.set("k", "x").execute_command("NOSUCH")
                raises(redis.RedisError, pipe.execute)
                equal(pipe.execute(), [])
                equal(r.get("k"), b"text" if transaction else b"x")
                pipe.set("big", "x" * 300_000).get("big").strlen("big")
                equal(pipe.execute(), [True, b"x" * 300_000, 300_000])


@check(timeout=30)
def watch_loops(context):
    """`transaction()` and hand-made WATCH loops of several threads: exact sums."""
    threads, rounds = 4, 100
    with context.serve() as server:
        r = client(server)
        r.mset({"a": 0, "b": 0})

        def move(pipe):
            a, b = int(pipe.get("a")), int(pipe.get("b"))
            pipe.multi()
            pipe.set("a", a + 1)
            pipe.set("b", b - 1)

        def by_hand():
            with r.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch("a", "b")
                        move(pipe)
                        pipe.execute()
                        return
                    except redis.WatchError:
                        continue

        def work(number):
            for i in range(rounds):
                by_hand() if (number + i) % 2 else r.transaction(move, "a", "b")

        in_threads(threads, work)
        equal(r.mget("a", "b"), [b"%d" % (threads * rounds), b"-%d" % (threads * rounds)])
        lock = r.lock("lock", timeout=5)
        # Its release is a script, which a cache of strings does not run; taking it is SET NX PX.
        equal(lock.acquire(blocking=False), True)
        equal(client(server).lock("lock").acquire(blocking=False), False)


@check(timeout=30)
def values_of_all_sizes(context):
    """Values from 0 B to 1 MiB, as single values and in MGET."""
    sizes = [0, 1, 100, 4095, 16_383, 16_384, 16_385, 65_536, 100_000, 1 << 20]
    with context.serve() as server:
        for r in both_protocols(server):
            for size in sizes:
                value = bytes(i * 7 & 255 for i in range(251)) * (size // 251 + 1)
                r.set(f"v{size}", value[:size])
                equal(r.get(f"v{size}"), value[:size], f"{size} bytes")
                equal(r.strlen(f"v{size}"), size)
            got = r.mget([f"v{size}" for size in sizes])
            equal([len(value) for value in got], sizes)


def in_threads(count, work):
    """Runs `work(number)` in threads; fails with the first error."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:  # reported by the caller
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(i,), daemon=True) for i in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(25)
        require(not thread.is_alive(), "a thread hangs")
    if errors:
        raise errors[0]


@check(timeout=30)
def many_threads(context):
    """32 threads over one pool of 8 connections; every reply belongs to its request."""
    with context.serve() as server:
        if redis is None:
            raise Skip("redis-py is not installed for this Python (pip install redis)")
        pool = redis.BlockingConnectionPool(host="127.0.0.1", port=server.port, max_connections=8,
                                            timeout=20)
        r = redis.Redis(connection_pool=pool)

        def work(number):
            for i in range(40):
                key = f"t{number}:{i % 5}"
                r.set(key, f"{number}-{i}")
                equal(r.get(key), f"{number}-{i}".encode())
                with r.pipeline(transaction=bool(i % 2)) as pipe:
                    pipe.incr(f"c{number}").get(key).incr("all")
                    equal(pipe.execute()[:2], [i + 1, f"{number}-{i}".encode()])

        in_threads(32, work)
        equal(r.get("all"), b"1280")


@check(timeout=20, shards=(1, 2), dispatch=("borrow",))
def ends_and_beginnings(context):
    """A connection killed under the client is replaced by it; a pub/sub client gets an error."""
    with context.serve() as server:
        r = client(server)
        r.set("k", "v")
        for connection in list(r.connection_pool._available_connections):
            connection._sock.shutdown(2)
        equal(r.get("k"), b"v")
        if not context.is_redis:
            raises(redis.ResponseError, lambda: r.lpush("list", 1), "unknown command")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="redis_py"))
