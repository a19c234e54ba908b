"""Malformed and hostile input on the RESP port: Redis's errors, bounded memory, others unaffected.

Whatever has an answer in Redis is compared with redis-server's: all cases are sent to both at
once, each on a connection of its own, and what came back is compared, and whether the connection
was closed. Bad HTTP is in http_curl.py, bad starts in bad_start.py.
"""

import os
import resource
import select
import socket
import sys
import time

from checks import check, still_serves
from harness import CheckFailed, cpu_ns, metric, require, rss_bytes, wait_until
from resp import Closed, Connection, bulk, encode

INLINE_BYTES_MAX = 64 * 1024
QUIET_SECONDS = 1.0
PING = encode("PING")
MIB = 1 << 20
# What twenty greedy clients may cost beside the values they ask for.
GREEDY_RSS_BYTES_MAX = 96 * MIB


def cases():
    """Names and bytes; each is followed by a PING, to see whether the connection still works."""
    for text in ("-1", "-2", "0", "abc", "", "1.5", " 1", "+1", "1 ", "1a", "--1",
                 "2147483648", "4294967296", "9223372036854775807",
                 "9223372036854775808", "18446744073709551616", "9" * 60):
        yield f"array length {text}", b"*%b\r\n" % text.encode()
        if text not in ("0", "+1"):
            # Redis waits for the bytes of lawful lengths; those have a case of their own.
            yield f"bulk length {text}", b"*2\r\n$4\r\nECHO\r\n$%b\r\n" % text.encode()
        yield f"length {text} of the name", b"*1\r\n$%b\r\n" % text.encode()
    yield "bulk length 0", b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"
    yield "bulk length +1", b"*2\r\n$4\r\nECHO\r\n$+1\r\na\r\n"
    yield "bulk length 01", b"*2\r\n$4\r\nECHO\r\n$01\r\na\r\n"
    yield "bulk length of 512 MB and one", b"*2\r\n$4\r\nECHO\r\n$536870913\r\n"
    for first in b":+-$%~_#!=,(>|\xff\x80":  # NUL would end Redis's own message
        yield f"bulk marked {first:#x}", b"*2\r\n$4\r\nECHO\r\n%c1\r\na\r\n" % first
    yield "no dollar", b"*2\r\n$4\r\nECHO\r\nhello\r\n"
    yield "empty line for a bulk", b"*2\r\n$4\r\nECHO\r\n\r\n"
    yield "nested array", b"*1\r\n*1\r\n$4\r\nPING\r\n"
    yield "no line break after a bulk", b"*2\r\n$4\r\nECHO\r\n$5\r\nhelloXX*1\r\n$4\r\nPING\r\n"
    yield "bulk ended by LF LF", b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\n\n"
    yield "array of nothing", b"*0\r\n*-1\r\n*0\r\n"
    yield "unknown command", encode("NOSUCH", "a", "b")
    yield "unknown inline command", b"nosuch a b\r\n"
    yield "a name of 16,000 bytes", encode("N" * 16_000, "a")
    yield "wrong arity", encode("GET") + encode("SET", "a") + encode("PING", "a", "b")
    yield "inline with unbalanced quotes", b'SET k "a\r\n'
    yield "inline with a quote and text", b'SET k "a"b\r\n'
    yield "inline of blanks", b"    \r\n \t \r\n"
    yield "inline with many words", b"MGET" + b" a" * 2000 + b"\r\n"
    yield "inline of almost 16 KiB", b"ECHO " + b"x" * 16_383 + b"\r\n"
    yield "garbage", bytes(range(1, 10)) + b"\r\n"
    yield "high bytes", b"\xff\xfe\xfd \x80\r\n"
    yield "NUL in an argument", encode("ECHO", b"a\x00b") + encode("SET", b"\0", b"\0")
    yield "NUL in a name", encode(b"P\x00NG")
    yield "POST", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "post", b"post / HTTP/1.1\r\n"
    yield "Host:", b"Host: localhost\r\n"
    yield "host: after a GET", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
    yield "POST as an array", encode("POST", "/")
    yield "host: as an array", encode("host:", "x")
    yield "a command after an error", b"*1\r\n$abc\r\n" + encode("SET", "after-error", "x")
    yield "half an array, then inline", b"*2\r\n$4\r\nECHO\r\nPING\r\n"
    yield "many errors", encode("NOSUCH") * 50 + encode("INCR", "notnumber")
    yield "exec abort", encode("MULTI") + encode("NOSUCH") + encode("EXEC")
    yield "quit", encode("QUIT")
    yield "hello", encode("HELLO", "9") + encode("HELLO", "3", "AUTH")


def endless_lines():
    """Lines that are too long before they end, whatever the sizes of the reads."""
    crowd = b"1" * (4 * INLINE_BYTES_MAX)
    yield "array line without an end", b"*" + crowd
    yield "bulk line without an end", b"*1\r\n$" + crowd
    yield "inline without an end", b"ECHO " + crowd


def outcomes(port, inputs):
    """What each input brings: (bytes, "open", "closed" or "reset"), all at the same time."""
    sockets, got, unsent = {}, {}, {}
    poller = select.poll()
    for name, data in inputs:
        link = socket.create_connection(("127.0.0.1", port), 5)
        link.setblocking(False)
        sockets[link.fileno()] = (name, link)
        got[name], unsent[name] = [bytearray(), "open"], memoryview(data)
        poller.register(link, select.POLLIN | select.POLLOUT)
    end, alive = time.monotonic() + QUIET_SECONDS, len(sockets)
    while alive and time.monotonic() < end:
        for fd, events in poller.poll(50):
            name, link = sockets[fd]
            try:
                if events & ~select.POLLOUT:
                    data = link.recv(1 << 18)
                    got[name][0] += data
                    if not data:
                        got[name][1] = "closed"
                elif unsent[name]:
                    unsent[name] = unsent[name][link.send(unsent[name]):]
            except (ConnectionResetError, BrokenPipeError):
                got[name][1] = "reset"
            if got[name][1] != "open":
                poller.unregister(fd)
                alive -= 1
            elif not unsent[name]:
                poller.modify(fd, select.POLLIN)
    for _, link in sockets.values():
        link.close()
    return got


def same_outcome(want, got):
    """Equal, but an end may have swallowed what was sent before it.

    That is so for a reset, and for Redis when it closes at a line of HTTP.
    """
    (want_data, want_end), (got_data, got_end) = want, got
    if not want_data and want_end == "closed":
        return got_end != "open" and (not got_data or got_data.startswith(b"-"))
    if "reset" in (want_end, got_end) and want_end != "open" and got_end != "open":
        return want_data.startswith(got_data) or got_data.startswith(want_data)
    return want_data == got_data and want_end == got_end


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def errors_as_redis_has_them(context):
    """Each malformed input: Redis's reply, and closed exactly if Redis closes."""
    inputs = [(name, data + PING) for name, data in cases()] + list(endless_lines())
    with context.serve_referee() as referee, context.serve() as server:
        for port in (referee.port, server.port):
            with Connection(port) as link:
                link.ok("SET", "notnumber", "x")
        wanted, got = outcomes(referee.port, inputs), outcomes(server.port, inputs)
        still_serves(server.port)
    wrong = [f"{name}:\n    want {want[1]} {bytes(want[0][:160])!r}\n"
             f"    got  {got[name][1]} {bytes(got[name][0][:160])!r}"
             for name, want in wanted.items() if not same_outcome(want, got[name])]
    context.note(f"{len(inputs)} inputs, {len(wrong)} differences")
    if wrong:
        raise CheckFailed("\n".join(wrong))


@check(timeout=40, shards=(1, 2))
def cut_at_every_byte(context):
    """Commands cut at each byte: closed there, they leave nothing; continued, they are answered."""
    stream = (encode("SET", "cut", "value") + encode("GET", "cut") + b"PING\r\n"
              + encode("MGET", "cut", "none") + encode("SET", "big", b"x" * 20))
    replies = b"+OK\r\n$5\r\nvalue\r\n+PONG\r\n*2\r\n$5\r\nvalue\r\n$-1\r\n+OK\r\n"
    with context.serve() as server:
        for cut in range(len(stream) + 1):
            with Connection(server.port) as link:
                link.send(stream[:cut])
                if cut % 3 == 0:
                    link.socket.shutdown(socket.SHUT_WR)
                if cut % 7 == 0:
                    time.sleep(0.002)
            with Connection(server.port) as link:
                link.send(stream[:cut])
                if cut % 2:
                    time.sleep(0.001)
                link.send(stream[cut:])
                got = link.take(len(replies))
                require(got == replies, f"cut at {cut}: {got!r}")
        with Connection(server.port) as link:
            for byte in stream:
                link.send(bytes([byte]))
            require(link.take(len(replies)) == replies, "byte by byte")
        still_serves(server.port)


@check(timeout=40, shards=(1, 2))
def cut_large_values(context):
    """A long value abandoned half-way leaves the old one, and its memory comes back."""
    size = 4 * MIB
    head = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size
    with context.serve(max_memory="64MiB") as server:
        with Connection(server.port) as link:
            link.ok("SET", "big", "old")
            for number in range(60):
                with Connection(server.port) as ghost:
                    ghost.send(head + b"x" * (size * number // 60))
            require(link.call("GET", "big") == b"old", "half a value was stored")
            for _ in range(3):
                require(link.call("SET", "big", b"y" * size) == b"OK", "SET of 4 MiB")
            require(link.call("GET", "big") == b"y" * size, "GET of 4 MiB")
            link.ok("DEL", "big")
        still_serves(server.port)


@check(timeout=40, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def declared_lengths_reserve_nothing(context):
    """200 clients that announce 500 MB and send a little cost next to nothing."""
    with context.serve(max_memory="64MiB") as server:
        before = rss_bytes(server.pid)
        ghosts = [Connection(server.port) for _ in range(200)]
        for ghost in ghosts:
            ghost.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n" + b"x" * 1000)
        for ghost in ghosts[:100]:
            ghost.send(b"x" * 10_000)
        still_serves(server.port)
        grown = rss_bytes(server.pid) - before
        for ghost in ghosts:
            ghost.close()
        context.note(f"VmRSS grew by {grown // 1024} KiB for 200 announced values of 500 MB")
        require(grown < 32 * MIB, f"VmRSS grew by {grown} bytes")
        still_serves(server.port)


@check(timeout=40, shards=(1, 2), only="fulmar")
def values_over_the_limit(context):
    """A value that cannot fit is drained and answered with an error; the connection stays."""
    with context.serve(max_memory="64MiB") as server, Connection(server.port, timeout=20) as link:
        link.ok("SET", "k", "old")
        size = 100 * MIB
        link.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % size)
        for _ in range(100):
            link.send(b"x" * MIB)
        link.send(b"\r\n" + PING)
        reply = link.frame()
        require(reply.startswith(b"-"), f"a value larger than the memory limit: {reply[:80]!r}")
        require(link.frame() == b"+PONG\r\n", "the connection is out of step")
        context.note(f"100 MiB into 64 MiB: {reply.decode().strip()}")
        require(link.call("GET", "k") in (b"old", None), "half a value was stored")
        still_serves(server.port)


def probe_latency(port, seconds):
    """The longest PING of a well-behaved client during that time."""
    worst, end = 0.0, time.monotonic() + seconds
    with Connection(port, timeout=5) as link:
        while time.monotonic() < end:
            started = time.monotonic()
            require(link.call("PING") == b"PONG", "PING")
            worst = max(worst, time.monotonic() - started)
            time.sleep(0.005)
    return worst


def push(links, payload, seconds):
    """Sends as much as the sockets take, never reading; bytes sent."""
    poller, total, end = select.poll(), 0, time.monotonic() + seconds
    by_fd = {link.socket.fileno(): link for link in links}
    offsets = dict.fromkeys(by_fd, 0)
    for fd, link in by_fd.items():
        link.socket.setblocking(False)
        poller.register(fd, select.POLLOUT)
    while time.monotonic() < end:
        for fd, events in poller.poll(50):
            if events & ~select.POLLOUT:
                poller.unregister(fd)  # the server gave up on it, which is its right
                continue
            # One by one, each whole in the end: a stream cut short would be a protocol error.
            sent = by_fd[fd].socket.send(payload[offsets[fd]:])
            offsets[fd] = (offsets[fd] + sent) % len(payload)
            total += sent
    return total


@check(timeout=40, shards=(2,), only="fulmar")
def clients_that_never_read(context):
    """Twenty clients ask for large values and never read: memory bounded, others answered."""
    with context.serve(max_memory="256MiB") as server:
        with Connection(server.port) as link:
            for i in range(4):
                link.ok("SET", f"big:{i}", b"x" * MIB)
            link.ok("SET", "small", b"y" * 1000)
        before = rss_bytes(server.pid)
        for command in ("GET", "MGET"):
            greedy = [Connection(server.port) for _ in range(20)]
            payload = b"".join(encode(command, f"big:{i}") + encode(command, "small")
                               for i in range(4)) * 200
            sent = push(greedy, payload, 1.5)
            worst = probe_latency(server.port, 0.5)
            still_serves(server.port)
            grown = rss_bytes(server.pid) - before
            context.note(f"{command}: {sent >> 10} KiB of requests unread, VmRSS grew by "
                         f"{grown >> 10} KiB, longest PING {worst * 1000:.1f} ms")
            require(grown < GREEDY_RSS_BYTES_MAX, f"VmRSS grew by {grown >> 20} MiB")
            require(worst < 0.5, f"another client waited {worst:.3f} s")
            # Values may be overwritten and deleted while they are being sent.
            with Connection(server.port) as link:
                link.ok("SET", "big:0", b"z" * MIB)
                link.ok("DEL", "big:1")
                link.ok("SET", "big:1", b"x" * MIB)
            for link in greedy:
                link.close()
        with Connection(server.port) as link:
            require(link.call("GET", "big:0") == b"z" * MIB, "GET after all")
        used = cpu_ns(server.pid)
        time.sleep(0.5)
        used = (cpu_ns(server.pid) - used) / 5e8
        require(used < 0.2, f"{used:.0%} of a core with nobody left")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def long_values_are_sent_from_where_they_lie(context):
    """Clients that ask for long values and do not read take no memory for them; what they asked for
    is what they get, whatever became of the keys meanwhile."""
    length, count = 24 << 20, 60
    with context.serve(max_memory="256MiB") as server, Connection(server.port, timeout=20) as link:
        first, second = b"1" * length, b"2" * length
        keys = ["a", "b", "c"]
        for key in keys:
            link.ok("SET", key, first)
        before = rss_bytes(server.pid)
        crowd = [Connection(server.port, timeout=20) for _ in range(4)]
        for reader in crowd:
            reader.send(b"".join(encode("GET", keys[i % 3]) for i in range(count)))
        time.sleep(1)
        grown = rss_bytes(server.pid) - before
        require(grown < 8 << 20, f"{grown >> 20} MiB for {4 * count} replies of 24 MiB")
        # The values being sent outlive their keys; later replies see what was written later.
        link.ok("SET", "a", second)
        link.ok("DEL", "b")
        for reader in crowd[:2]:
            got = [reader.reply() for _ in range(count)]
            require(all(value in (None, first, second) for value in got), "a value is mixed")
            require(got[0] == first, "the first reply")
            changed = [value[:1] if value else value for value in got[::3]]
            require(changed == sorted(changed), "GET a goes back in time")
            require(all(value == first for value in got[2::3]), "GET c")
        for reader in crowd:
            reader.close()
        wait_until(lambda: metric(server, "leased_bytes") == 0, 5,
                   "all leases are given back")
        context.note(f"{grown >> 10} KiB for {4 * count} replies of 24 MiB")


@check(timeout=40, shards=(1, 2))
def slow_reader_gets_everything(context):
    """A client that sends all first and reads late gets each reply, right and in order."""
    with context.serve() as server, Connection(server.port, timeout=20) as link:
        values = {f"k{i}": bytes([65 + i]) * (50_000 * i + 1) for i in range(20)}
        for key, value in values.items():
            link.ok("SET", key, value)
        with Connection(server.port, timeout=20) as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            slow.send(b"".join(encode("GET", key) for key in values) + PING)
            time.sleep(0.3)
            # Sent from where they lie, or not: what was asked for before is what comes.
            for key in list(values)[::3]:
                link.ok("SET", key, "changed") if key == "k0" else link.ok("EXPIRE", key, 100)
            for number, (key, value) in enumerate(values.items()):
                got = slow.reply()
                require(got == value or (key == "k0" and got == b"changed"),
                        f"{key}: {len(got or b'')} bytes {(got or b'')[:20]!r}")
                if number % 5 == 0:
                    time.sleep(0.02)
            require(slow.reply() == b"PONG", "PING at the end")


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def a_byte_at_a_time(context):
    """Fifty clients trickle their commands; a normal one notices nothing; all are answered."""
    stream = encode("SET", "slow", "v") + encode("GET", "slow") + b"PING\r\n"
    replies = b"+OK\r\n" + bulk(b"v") + b"+PONG\r\n"
    with context.serve() as server:
        links = [Connection(server.port) for _ in range(50)]
        worst = 0.0
        with Connection(server.port) as other:
            for byte in stream:
                for link in links:
                    link.send(bytes([byte]))
                started = time.monotonic()
                require(other.call("PING") == b"PONG", "PING")
                worst = max(worst, time.monotonic() - started)
                time.sleep(0.01)
        for link in links:
            require(link.take(len(replies)) == replies, "replies")
            link.close()
        require(worst < 0.5, f"another client waited {worst:.3f} s")


@check(timeout=30, shards=(1, 2))
def half_closed_sockets(context):
    """Requests, then shutdown of the sending side: the replies still come, then the end."""
    with context.serve() as server:
        with Connection(server.port) as link:
            link.ok("SET", "k", "v")
            link.ok("SET", "big", b"x" * MIB)
        for count in (1, 10, 500):
            with Connection(server.port) as link:
                link.send(encode("GET", "k") * count)
                link.socket.shutdown(socket.SHUT_WR)
                want = bulk(b"v") * count
                require(link.take(len(want)) == want, f"{count} replies")
                expect_end(link)
        if not context.is_redis:
            # Redis drops what it has not sent when it sees the end; nothing is gained by that.
            with Connection(server.port) as link:
                link.send(encode("GET", "big") * 8 + encode("MGET", "k", "k"))
                link.socket.shutdown(socket.SHUT_WR)
                for _ in range(8):
                    require(link.reply() == b"x" * MIB, "a large value")
                require(link.reply() == [b"v", b"v"], "MGET")
                expect_end(link)
        with Connection(server.port) as link:
            link.send(encode("GET", "k") + encode("GET", "k")[:7])
            link.socket.shutdown(socket.SHUT_WR)
            require(link.reply() == b"v", "the whole command before the cut one")
            expect_end(link)


def expect_end(link):
    """The server closes in order, with nothing before it."""
    try:
        link.fill()
        require(False, f"more came: {bytes(link.buffer[:80])!r}")
    except Closed as end:
        require(not end.partial and not end.was_reset, str(end))


@check(timeout=40, shards=(1, 2), dispatch=("borrow",))
def garbage_from_many(context):
    """Random bytes on many connections: no crash, no memory kept, others served."""
    with context.serve(max_memory="64MiB") as server:
        before = None
        for number in range(300):
            with Connection(server.port) as link:
                try:
                    link.send([b"", b"*", b"*3\r\n$3\r\nSET\r\n$", b"GET ", b"$", b"*1000000\r\n"]
                              [number % 6] + os.urandom(number * 97 % 20_000))
                except (ConnectionError, socket.timeout):
                    pass
            if number == 50:
                before = rss_bytes(server.pid)
        still_serves(server.port)
        grown = rss_bytes(server.pid) - before
        require(grown < 16 * MIB, f"VmRSS grew by {grown} bytes")


@check(timeout=40, shards=(1, 2), dispatch=("borrow",))
def file_descriptors_exhausted(context):
    """With no descriptor left the server waits without spinning, and goes on when some return."""
    with context.serve() as server:
        kept = Connection(server.port)
        kept.ok("PING")
        open_now = len(os.listdir(f"/proc/{server.pid}/fd"))
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_now + 20, hard))
        crowd = []
        for _ in range(60):
            crowd.append(Connection(server.port, timeout=5))
            crowd[-1].send(PING)
        time.sleep(0.3)
        require(kept.call("PING") == b"PONG", "an old connection is not served")
        used = cpu_ns(server.pid)
        time.sleep(1)
        used = (cpu_ns(server.pid) - used) / 1e9
        context.note(f"{used:.1%} of a core while descriptors are exhausted")
        # redis-server polls a listener that stays ready, so it is no model here.
        require(context.is_redis or used < 0.25, f"spins: {used:.0%} of a core")
        require(kept.call("SET", "k", "v") == b"OK", "an old connection is not served")
        for link in crowd[:30]:
            link.close()
        wait_until(lambda: answered(crowd[30:]) >= 15, 5, "waiting connections are accepted")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for link in crowd[30:]:
            link.close()
        wait_until(lambda: serves_now(server.port), 5, "new connections are served again")
        kept.close()


def answered(links):
    """How many have an answer waiting."""
    return len(select.select([link.socket for link in links], [], [], 0)[0])


def serves_now(port):
    """Whether a new connection is answered."""
    try:
        still_serves(port)
        return True
    except (CheckFailed, Closed, OSError):
        return False


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="bad_input"))
