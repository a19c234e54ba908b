"""Clients that know nothing of a cluster, through any of its nodes: redis-py, curl, raw pipelines.

A key set here is read there; commands on many keys gather them from many nodes; FLUSHALL, DBSIZE,
SCAN and KEYS mean the whole cluster. One redis-server that is no cluster serves as the referee, in
the part of all three nodes.
"""

import concurrent.futures
import contextlib
import itertools
import json
import sys
import threading
import time

from checks import check, parallel
from cluster import Cluster, slot_of
from cluster_clients import SIZES, body
from harness import Skip, require
from http_curl import curl
from order_check import Model, client
from redis_py import equal, raises
from resp import encode, integer

try:
    import redis
except ImportError:
    redis = None


@contextlib.contextmanager
def places(context, **flags):
    """(host, port) of three nodes."""
    if context.is_redis:
        with context.serve(**flags) as server:
            yield [("127.0.0.1", server.port)] * 3
    else:
        with Cluster(context, 3, **flags) as cluster:
            yield [node.address for node in cluster.nodes]


def connect(host, port, **options):
    """redis-py's plain client, RESP2."""
    if redis is None:
        raise Skip("redis-py is not installed for this Python (pip install redis)")
    return redis.Redis(host=host, port=port, socket_timeout=20, **options)


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def set_here_read_there(context):
    """Values from 0 B to 64 MiB, set by one node, read, changed and deleted by the others."""
    with places(context, max_memory="512MiB") as nodes:
        here, there, elsewhere = (connect(*node, protocol=3 - i % 2)
                                  for i, node in enumerate(nodes))
        for i in range(300):
            equal(here.set(f"key:{i}", f"value:{i}", ex=1000), True)
            equal(there.get(f"key:{i}"), b"value:%d" % i, f"key:{i}")
            equal(990 < elsewhere.ttl(f"key:{i}") <= 1000, True, "TTL")
        for i in range(100):
            equal(there.append(f"key:{i}", "+"), len(f"value:{i}+"))
            equal(elsewhere.getrange(f"key:{i}", -1, -1), b"+")
            equal(elsewhere.set(f"key:{i}", "new", get=True), f"value:{i}+".encode())
            equal(here.getdel(f"key:{i}"), b"new")
            equal(there.get(f"key:{i}"), None)
            equal([r.incr("counter") for r in (here, there, elsewhere)],
                  [3 * i + 1, 3 * i + 2, 3 * i + 3], "INCR")
        for size in [*SIZES, 64 << 20]:
            value = body(size)
            for number, r in enumerate((here, there, elsewhere)):
                if size < 1 << 24 or number == 0:
                    equal(r.set(f"size:{number}", value), True)
            for r in (there, elsewhere, here):
                equal(r.get("size:0") == value, True, f"{size} B")
                equal(r.strlen("size:0"), size)
        raises(redis.ResponseError, lambda: there.incr("size:0"))


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def many_keys_of_many_nodes(context):
    """MSET, MGET, DEL, UNLINK, EXISTS and TOUCH gather; the whole keyspace from any node."""
    with places(context) as nodes:
        clients = [connect(*node) for node in nodes]
        pairs = {f"key:{i}": b"%d" % i for i in range(2000)}
        names = {key.encode() for key in pairs}
        for r, other in itertools.permutations(clients, 2):
            equal(r.mset(pairs), True)
            equal(other.mget([*pairs, "none", *pairs]), [*pairs.values(), None, *pairs.values()])
            equal(other.exists(*pairs, "none", "key:1"), 2001)
            equal(other.touch(*pairs, "none"), 2000)
            equal([c.dbsize() for c in clients], [2000] * 3, "DBSIZE")
            equal(set(other.keys("*")), names, "KEYS")
            equal(set(other.keys("key:19?")), {n for n in names if n.startswith(b"key:19")
                                               and len(n) == 7}, "KEYS key:19?")
            for count in (None, 1, 7, 1000):
                if count != 1 or r is clients[0]:
                    equal(set(other.scan_iter(count=count)), names, f"SCAN COUNT {count}")
            equal(set(other.scan_iter(match="key:99*")),
                  {n for n in names if n.startswith(b"key:99")}, "SCAN MATCH")
            equal(other.randomkey() in names, True, "RANDOMKEY")
            equal(other.delete(*list(pairs)[:500], "none"), 500)
            equal(other.unlink(*list(pairs)[:600]), 100)
            equal(r.dbsize(), 1400)
            equal(r.flushall(), True)
            equal([c.dbsize() for c in clients], [0] * 3, "DBSIZE after FLUSHALL")
            equal(list(other.scan_iter()), [], "SCAN after FLUSHALL")


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def pipelines_and_transactions(context):
    """redis-py's pipelines over all keys, MULTI/EXEC and WATCH on those of one node."""
    with places(context) as nodes:
        clients = [connect(*node) for node in nodes]
        for r, other in itertools.permutations(clients, 2):
            r.flushall()
            with r.pipeline(transaction=False) as pipe:
                for i in range(500):
                    pipe.set(f"k{i}", i).get(f"k{i}").incr(f"k{i}")
                want = [x for i in range(500) for x in (True, b"%d" % i, i + 1)]
                equal(pipe.execute(), want, "pipeline")
            for tag in "abcdef":
                with r.pipeline(transaction=True) as pipe:
                    for i in range(20):
                        pipe.set(f"{{{tag}}}{i}", i).incr(f"{{{tag}}}{i}")
                    pipe.mget(*(f"{{{tag}}}{i}" for i in range(20)))
                    replies = pipe.execute()
                equal(replies[:-1], [x for i in range(20) for x in (True, i + 1)], "EXEC")
                equal(replies[-1], [b"%d" % (i + 1) for i in range(20)], "MGET in EXEC")
                with r.pipeline(transaction=True) as pipe:
                    pipe.set(f"{{{tag}}}0", "text").incr(f"{{{tag}}}0").get(f"{{{tag}}}0")
                    replies = pipe.execute(raise_on_error=False)
                equal(isinstance(replies[1], redis.ResponseError), True, str(replies))
                equal((replies[0], replies[2]), (True, b"text"))
                if not watches(r, f"{{{tag}}}0"):
                    continue
                with r.pipeline() as pipe:
                    pipe.watch(f"{{{tag}}}0")
                    equal(other.set(f"{{{tag}}}0", "changed"), True)
                    pipe.multi()
                    pipe.set(f"{{{tag}}}1", "wrong")
                    raises(redis.WatchError, pipe.execute)
                with r.pipeline() as pipe:
                    pipe.watch(f"{{{tag}}}0")
                    equal(pipe.get(f"{{{tag}}}0"), b"changed")
                    pipe.multi()
                    pipe.set(f"{{{tag}}}1", "right")
                    equal(pipe.execute(), [True])
                equal(other.get(f"{{{tag}}}1"), b"right")


def watches(client, key):
    """Whether a client's node has the key; WATCH of another node's is refused, and says so."""
    with client.pipeline() as pipe:
        try:
            pipe.watch(key)
        except redis.ResponseError as error:
            equal(str(error).startswith("CROSSSLOT") or "WATCH" in str(error), True, str(error))
            return False
    return True


class OneNodeTransactions(Model):
    """Random commands on keys of all nodes, but transactions on those of one."""

    def incr(self, *_):
        key = b"{%b}:counter" % self.name.encode()
        self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + 1)
        return encode("INCR", key), integer(int(self.values[key]))

    def transaction(self, *_):
        everything = self.keys, self.large_keys
        self.keys = self.large_keys = [key for key in self.keys if key.startswith(b"{")]
        try:
            return super().transaction()
        finally:
            self.keys, self.large_keys = everything


@check(timeout=60, shards=(2,), dispatch=("borrow",))
def replies_in_order(context):
    """Random pipelines of three clients, each at another node: every reply byte is as foreseen.

    Local and forwarded commands are mixed in every pipeline, cut at random places.
    """
    seconds = 60 if context.long else 5
    with places(context, max_memory="512MiB") as nodes:
        counts = parallel(client, [(port, f"p{i}", 4, context.seed, seconds, OneNodeTransactions,
                                    host) for i, (host, port) in enumerate(nodes)], seconds + 40)
    context.note(f"{sum(counts)} commands in {seconds} s, seed {context.seed}")


def many_keys(number, host, port, stop):
    """Commands on many keys, and transactions, until told to stop; how many."""
    link, rounds = connect(host, port), 0
    keys = [f"many:{number}:{i}" for i in range(20)]
    while not stop.is_set():
        rounds += 1
        values = {key: f"{key}={rounds}" for key in keys}
        equal(link.mset(values), True, "MSET")
        equal(link.mget(keys), [value.encode() for value in values.values()], "MGET")
        equal(link.exists(*keys), len(keys), "EXISTS")
        equal(link.delete(*keys[:7]), 7, "DEL")
        with link.pipeline() as pipe:
            pipe.incr(f"{{t{number}}}count").set(f"{{t{number}}}last", rounds)
            equal(pipe.execute(), [rounds, True], "EXEC")
        equal(link.msetnx({f"{{n{number}}}{rounds}": 1, f"{{n{number}}}{rounds}+": 2}), True)
    return rounds


@check(timeout=90, shards=(2,), dispatch=("borrow",), only="fulmar")
def many_keys_while_ranges_move(context):
    """MGET, MSET, DEL and EXEC by nodes that stay, while another one comes and goes: no error."""
    with Cluster(context, 3) as cluster:
        nodes = cluster.nodes[:]
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(many_keys, i, *nodes[i % 3].address, stop) for i in range(6)]
            newcomer = cluster.make_node()
            newcomer.flags["bootstrap_expect"] = None
            try:
                for _ in range(10 if context.long else 1):
                    newcomer.start()
                    cluster.count = 4
                    cluster.wait_ready(30)
                    time.sleep(0.5)
                    newcomer.terminate()
                    cluster.count = 3
                    cluster.wait_ready(30, nodes=nodes)
            finally:
                stop.set()
            rounds = sum(client.result() for client in clients)
        context.note(f"{rounds} rounds of six commands")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def a_transaction_too_large_for_another_node(context):
    """More arguments than one command may have: an error, and the node goes on."""
    with Cluster(context, 3) as cluster:
        slots, node = cluster.slots(), cluster.nodes[0]
        key = next(b"k%d" % i for i in range(1000) if slots[slot_of(b"k%d" % i)] is not node)
        with node.connect(timeout=40) as link:
            link.ok("MULTI")
            count, batch = 350_000, 10_000
            for _ in range(count // batch):
                link.send(encode("GET", key) * batch)
                for _ in range(batch):
                    link.reply()
            reply = link.call("EXEC")
            require("transaction is too large" in str(reply), f"EXEC: {reply!r:.100}")
            link.ok("SET", key, "v")
            equal(link.call("GET", key), b"v", "afterwards")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def curl_by_any_node(context):
    """POST at one node, GET at the others and over RESP, DELETE at the third."""
    with Cluster(context, 3) as cluster:
        urls = [f"http://{node.host}:{node.http_port}" for node in cluster.nodes]
        for i in range(12):
            here, there, elsewhere = urls[i % 3:] + urls[:i % 3]
            value = "x" * [0, 1, 20_000, 900_000][i % 4]
            status, _ = curl("-X", "POST", "-H", "Content-Type: application/json", "--data-binary",
                             "@-", f"{here}/key{i}", stdin=json.dumps(
                                 {"value": value, "ttl": 100}).encode())
            require(status in (200, 201, 204), f"POST: {status}")
            for url in (here, there, elsewhere):
                status, text = curl(f"{url}/key{i}")
                require(status == 200 and json.loads(text)["value"] == value,
                        f"GET {url}: {status}")
            for node in cluster.nodes:
                equal(node.call("GET", f"key{i}"), value.encode(), "over RESP")
            require(curl("-X", "DELETE", f"{there}/key{i}")[0] in (200, 204), "DELETE")
            equal(curl(f"{elsewhere}/key{i}")[0], 404, "GET of what is deleted")
        for node in cluster.nodes:
            equal(node.http("/-/readyz")[0], 200, "readyz")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def becomes_a_cluster_client(context):
    """The same connection is plain until it asks for the map or for READONLY; others stay plain."""
    with Cluster(context, 3) as cluster:
        slots = cluster.slots()
        node, other = cluster.owners()[:2]
        foreign = next(key for key in (b"key:%d" % i for i in range(1000))
                       if slots[slot_of(key)] is other)
        for question in (("CLUSTER", "SLOTS"), ("CLUSTER", "SHARDS"), ("CLUSTER", "NODES"),
                         ("READONLY",)):
            with node.connect() as link, node.connect() as plain:
                equal(link.call("SET", foreign, "v"), b"OK", "a plain client")
                link.ok("CLUSTER", "KEYSLOT", foreign)
                link.ok("CLUSTER", "INFO")
                equal(link.call("GET", foreign), b"v", "a plain client that asked for INFO")
                link.ok(*question)
                reply = link.call("GET", foreign)
                moved = f"MOVED {slot_of(foreign)} {other.host}:{other.port}"
                # READONLY lets a copy answer, where the node has one.
                is_copy = question == ("READONLY",) and reply == b"v"
                equal(is_copy or str(reply) == moved, True, f"after {question}: {reply!s}")
                equal(plain.call("GET", foreign), b"v", "another connection")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_plain"))
