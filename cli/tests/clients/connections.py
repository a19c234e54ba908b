"""Many connections at once, and the limit on them."""

import socket
import sys
import time

from checks import check, still_serves
from harness import CheckFailed, Skip, metric, raise_nofile_limit, require, rss_bytes, wait_until
from resp import Closed, Connection, encode

CROWD = 10_000
PING, PONG = encode("PING"), b"+PONG\r\n"
TOO_MANY = b"-ERR max number of clients reached\r\n"


@check(timeout=60, shards=(1, 4), dispatch=("borrow",), alone=True)
def ten_thousand_at_once(context):
    """All connected, all answered, more than once; their memory comes back."""
    if not raise_nofile_limit(CROWD + 200):
        raise Skip(f"the hard limit of open files is below {CROWD + 200}")
    with context.serve(maxclients=CROWD + 100) as server:
        still_serves(server.port)
        before = rss_bytes(server.pid)
        started = time.monotonic()
        crowd = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(CROWD)]
        connected = time.monotonic() - started
        wait_until(lambda: connected_clients(server) == CROWD + 1, 10, "all are accepted")
        idle = rss_bytes(server.pid)
        for _ in range(2):
            for link in crowd:
                link.sendall(PING)
            for link in crowd:
                got = link.recv(len(PONG), socket.MSG_WAITALL)
                require(got == PONG, f"answered {got!r}")
        used = rss_bytes(server.pid)
        context.note(f"{CROWD} connections in {connected:.2f} s; {(idle - before) / CROWD:.0f} B "
                     f"of VmRSS each when new, {(used - before) / CROWD:.0f} B after use")
        require((used - before) / CROWD < 16_384, "more than 16 KiB for each idle connection")
        for link in crowd:
            link.close()
        wait_until(lambda: connected_clients(server) == 1, 10, "all are gone")
        still_serves(server.port)


def connected_clients(server):
    """As INFO counts them; the asking one included."""
    with Connection(server.port) as link:
        for line in link.ok("INFO", "clients").decode().splitlines():
            if line.startswith("connected_clients:"):
                return int(line.split(":")[1])
    raise CheckFailed("INFO clients has no connected_clients")


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def limit_on_clients(context):
    """--maxclients: Redis's error for each one above, a place again for each that leaves."""
    limit = 50
    with context.serve(maxclients=limit) as server:
        crowd = [Connection(server.port) for _ in range(limit)]
        for link in crowd:
            require(link.call("PING") == b"PONG", "a client within the limit")
        for number in range(20):
            with Connection(server.port) as extra:
                # Some speak first, some only listen: both are told, then closed.
                if number % 2:
                    try:
                        extra.send(PING)
                    except ConnectionError:
                        pass
                try:
                    got = extra.frame()
                    require(got == TOO_MANY, f"one too many: {got!r}")
                    require(False, f"then {extra.frame()!r}")
                except Closed as end:
                    require(not end.partial, f"then {end.partial!r}")
        for link in crowd:
            require(link.call("PING") == b"PONG", "a client within the limit, after the others")
        for link in crowd[:10]:
            link.close()
        wait_until(lambda: count_served(server, 10) == 10, 5, "ten places are free again")
        for link in crowd[10:]:
            link.close()
        wait_until(lambda: count_served(server, 1) == 1, 5, "places are free again")


def count_served(server, count):
    """How many of so many new clients, all open at once, are served."""
    links, served = [Connection(server.port) for _ in range(count)], 0
    for link in links:
        try:
            served += link.call("PING") == b"PONG"
        except (Closed, ConnectionError):
            pass
    for link in links:
        link.close()
    return served


@check(timeout=30, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def idle_clients_hold_nothing(context):
    """What a client's last reply took is given back, and is not missing from the cache."""
    with context.serve() as server, Connection(server.port) as link:
        link.ok("SET", "big", b"x" * (1 << 20))
        crowd = [Connection(server.port) for _ in range(50)]
        for idle in crowd:
            require(len(idle.call("GET", "big")) == 1 << 20, "a value")
        wait_until(lambda: metric(server, "connection_bytes") < 1 << 20, 3,
                   "idle clients hold less than 1 MiB")
        for idle in crowd:
            idle.close()


@check(timeout=30, shards=(1,), dispatch=("borrow",))
def timeout_spares_slow_readers(context):
    """CONFIG SET timeout: who takes a long reply slowly is not idle; who does nothing is."""
    with context.serve() as server, Connection(server.port) as link:
        link.ok("SET", "big", b"x" * (20 << 20))
        with Connection(server.port, timeout=10) as slow, Connection(server.port) as idle:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            link.ok("CONFIG", "SET", "timeout", 1)
            slow.send(encode("GET", "big"))
            taken, started = 0, time.monotonic()
            while taken < 20 << 20:
                count = len(slow.socket.recv(1 << 16))
                require(count > 0, f"cut off after {taken} B, {time.monotonic() - started:.1f} s")
                taken += count
                time.sleep(0.01)
                link.ok("PING")
            require(time.monotonic() - started > 2.5, "too fast to show anything")
            try:
                idle.call("PING")
                raise CheckFailed("an idle client was kept")
            except (Closed, ConnectionError):
                pass


@check(timeout=40, shards=(1, 2))
def coming_and_going(context):
    """Thousands of short connections: none refused, nothing left behind."""
    count = 50_000 if context.long else 3000
    with context.serve() as server:
        before = None
        for number in range(count):
            with socket.create_connection(("127.0.0.1", server.port), 5) as link:
                kind = number % 4
                if kind:
                    link.sendall(PING)
                if kind > 1:
                    require(link.recv(100) == PONG, "PING on a short connection")
            if number == count // 3:
                before = rss_bytes(server.pid)
        wait_until(lambda: connected_clients(server) == 1, 5, "all are gone")
        grown = rss_bytes(server.pid) - before
        require(grown < 4 << 20, f"VmRSS grew by {grown} bytes over {count} connections")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="connections"))
