"""Hot keys: found while they are, with their rates, and forgotten when they cool."""

import random
import sys
import time

from checks import check
from http_curl import curl
from harness import require, wait_until
from resp import Connection, encode

HOT = b"a \"hot\" key\n"
SHOWN = 'a \\"hot\\" key\\n'
# Of what a key's rate is said to be; this machine is shared, and a rate is of the last seconds.
TOLERANCE = 0.3


def pairs(reply):
    """A flat array as a dictionary."""
    return dict(zip(reply[::2], reply[1::2]))


def load(link, generator, seconds):
    """Half of all reads are of one key; a tenth of its accesses are writes. The rates, per second."""
    reads = writes = 0
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        writing = generator.random() < 0.1
        hot = encode("SET", HOT, "v") if writing else encode("GET", HOT)
        link.send(b"".join(hot + encode("GET", "key:%d" % generator.randrange(10**6))
                           for _ in range(50)))
        for _ in range(100):
            link.reply()
        reads, writes = reads + 50 * (not writing), writes + 50 * writing
        time.sleep(0.002)
    took = time.monotonic() - started
    return reads / took, writes / took


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def found_and_forgotten(context):
    """HOTKEYS GET, INFO and /-/metrics list a key within two seconds, and not when it has cooled."""
    generator = random.Random(context.seed)
    with context.serve() as server, Connection(server.port) as link:
        metrics = f"http://127.0.0.1:{server.http_port}/-/metrics"
        require(pairs(link.call("HOTKEYS", "GET"))[b"by-reads-per-second"] == [], "hot at once")
        link.ok("SET", HOT, "v")
        load(link, generator, 2)
        require(HOT in pairs(link.call("HOTKEYS", "GET"))[b"by-reads-per-second"],
                "not found within 2 s")
        rates = load(link, generator, 4)
        listed = pairs(link.call("HOTKEYS", "GET"))
        require(listed[b"tracking-active"] == 1 and listed[b"hot-key-rps"] == 1000
                and listed[b"hot-copy-ms"] == 250, str(listed))
        for name, rate in zip((b"by-reads-per-second", b"by-writes-per-second"), rates):
            hot = pairs(listed[name])
            require(list(hot) == [HOT], f"{name}: {hot}")
            require(abs(hot[HOT] / rate - 1) < TOLERANCE, f"{name}: {hot[HOT]}, but {rate:.0f}")
        text = link.call("INFO", "hotkeys").decode()
        require(f"hot0:key={SHOWN},reads_per_second=" in text, text)
        status, text = curl(metrics)
        require(status == 200 and b"fulmar_hot_key_reads{core=" in text, text[:200])
        context.note(f"{rates[0]:.0f} reads/s, {rates[1]:.0f} writes/s; listed "
                     f"{[pairs(listed[name])[HOT] for name in (b'by-reads-per-second', b'by-writes-per-second')]}")
        cooled = time.monotonic()
        wait_until(lambda: not pairs(link.call("HOTKEYS", "GET"))[b"by-reads-per-second"], 5,
                   "it cools")
        require(time.monotonic() > cooled + 1.5, "it cooled at once")
        require(b"fulmar_hot_key_reads{" not in curl(metrics)[1], "still in the metrics")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def turned_off(context):
    """--hot-key-rps 0: nothing is listed."""
    with context.serve(hot_key_rps=0) as server, Connection(server.port) as link:
        link.ok("SET", HOT, "v")
        load(link, random.Random(context.seed), 2)
        listed = pairs(link.call("HOTKEYS", "GET"))
        require(listed[b"tracking-active"] == 0 and not listed[b"by-reads-per-second"], str(listed))


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="hot_keys"))
