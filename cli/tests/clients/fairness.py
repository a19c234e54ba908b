"""Commands on very many keys do not make other clients wait."""

import sys
import threading

from bad_input import probe_latency
from checks import check, still_serves
from harness import require
from resp import Connection, encode

KEYS_COUNT = 300_000
# One command at a time took some hundred milliseconds for each of these; one of many keys is now
# dealt with between others. What is left is mostly this check itself, which shares the machine.
LONGEST_PING_SECONDS = 0.06
NAMES = [f"k{number}" for number in range(KEYS_COUNT)]
COMMANDS = {"KEYS": ["KEYS", "*"], "MGET": ["MGET", *NAMES], "EXISTS": ["EXISTS", *NAMES],
            "DEL": ["DEL", *NAMES]}


def fill(link):
    """KEYS_COUNT keys, by pipelines of MSET."""
    for start in range(0, KEYS_COUNT, 1000):
        pairs = [word for number in range(start, start + 1000) for word in (f"k{number}", "v")]
        link.send(encode("MSET", *pairs))
    for _ in range(0, KEYS_COUNT, 1000):
        require(link.reply() == b"OK", "MSET")


@check(timeout=120, shards=(2,), only="fulmar", alone=True)
def others_go_on_during_long_commands(context):
    """KEYS, MGET, EXISTS and DEL of 300,000 keys: a PING now and then is answered soon."""
    with context.serve(max_memory="256MiB") as server, Connection(server.port, timeout=60) as link:
        # Another process on these CPUs can spoil a round, but hardly each.
        for _ in range(3):
            fill(link)
            longest = {name: longest_ping(server, link, name) for name in COMMANDS}
            require(link.call("DBSIZE") == 0, "DEL left some")
            context.note("longest PING in ms during " + ", ".join(
                f"{name}: {seconds * 1000:.1f}" for name, seconds in longest.items()))
            if max(longest.values()) < LONGEST_PING_SECONDS:
                break
        require(max(longest.values()) < LONGEST_PING_SECONDS, "a command stopped others")
        still_serves(server.port)


def longest_ping(server, link, name):
    """The longest PING beside one command on all keys."""
    data, worst = encode(*COMMANDS[name]), []
    prober = threading.Thread(target=lambda: worst.append(probe_latency(server.port, 1.0)))
    prober.start()
    link.send(data)
    # Not decoded while the PINGs are timed: that takes this process a second.
    received = link.frame()
    prober.join()
    kind = b":" if name in ("EXISTS", "DEL") else b"*"
    require(received.startswith(kind + b"%d\r\n" % KEYS_COUNT), f"{name}: {received[:20]!r}")
    require(worst, f"no PING during {name}")
    return worst[0]


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="fairness"))
