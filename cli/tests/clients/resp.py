"""A raw RESP client: encoding, frame scanning, decoding, and byte-exact exchanges.

Replies are compared as bytes wherever possible: `Expected` holds what must come, and `exchange`
sends and receives at once, so that a long pipeline cannot deadlock and any split of the stream is
exercised. Nothing here retries or reconnects.
"""

import collections
import select
import socket
import time

from harness import CheckFailed, require

RECEIVE_BYTES = 1 << 18
LINE_TYPES = b"+-:_,#("
BULK_TYPES = b"$!="
ITEMS_PER_COUNT = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}
ATTRIBUTE = ord("|")


class ErrorReply(str):
    """An error reply, as a value."""


class Closed(Exception):
    """The server closed the connection; `partial` is what came of an unfinished frame."""

    def __init__(self, partial, was_reset):
        how = "reset" if was_reset else "closed"
        super().__init__(f"connection {how}, partial {partial[:60]!r}")
        self.partial = partial
        self.was_reset = was_reset


def encode(*args):
    """One command as a RESP array of bulk strings; str, int and bytes arguments."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


def bulk(data):
    """A bulk string reply; None is RESP2's null."""
    return b"$-1\r\n" if data is None else b"$%d\r\n%b\r\n" % (len(data), data)


def integer(value):
    """An integer reply."""
    return b":%d\r\n" % value


def array(*items):
    """An array reply of encoded items."""
    return b"*%d\r\n" % len(items) + b"".join(items)


def frame_end(buffer, start=0):
    """The end of the frame that begins at `start`, or -1 if it is incomplete."""
    position, remaining = start, 1
    while remaining:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return -1
        kind, text = buffer[position], bytes(buffer[position + 1:line_end])
        position = line_end + 2
        remaining -= 1
        if kind in LINE_TYPES:
            continue
        if kind in BULK_TYPES:
            if int(text) >= 0:
                position += int(text) + 2
                if position > len(buffer):
                    return -1
        elif kind in ITEMS_PER_COUNT:
            remaining += max(int(text), 0) * ITEMS_PER_COUNT[kind]
        elif kind == ATTRIBUTE:
            remaining += int(text) * 2 + 1
        else:
            raise CheckFailed(f"not RESP at byte {start}: {bytes(buffer[start:start + 80])!r}")
    return position


def decode(frame):
    """The value of one whole frame: bytes, int, None, float, bool, list, dict or ErrorReply."""
    value, end = _decode_at(frame, 0)
    require(end == len(frame), f"bytes after the frame: {frame[end:end + 60]!r}")
    return value


def _decode_at(frame, position):
    line_end = frame.index(b"\r\n", position)
    kind, text = frame[position:position + 1], bytes(frame[position + 1:line_end])
    position = line_end + 2
    if kind in (b"$", b"!", b"="):
        length = int(text)
        if length < 0:
            return None, position
        data = bytes(frame[position:position + length])
        value = ErrorReply(data.decode("latin-1")) if kind == b"!" else data
        return (value[4:] if kind == b"=" else value), position + length + 2
    if kind in (b"*", b"~", b">", b"%"):
        count = int(text) * (2 if kind == b"%" else 1)
        if count < 0:
            return None, position
        items = []
        for _ in range(count):
            item, position = _decode_at(frame, position)
            items.append(item)
        if kind == b"%":
            return dict(zip(map(_hashable, items[::2]), items[1::2])), position
        return items, position
    if kind == b"+":
        return text, position
    if kind == b"-":
        return ErrorReply(text.decode("latin-1")), position
    if kind in (b":", b"("):
        return int(text), position
    if kind == b"_":
        return None, position
    if kind == b"#":
        return text == b"t", position
    require(kind == b",", f"unknown reply type {kind!r}")
    return float(text), position


def _hashable(key):
    return bytes(key) if isinstance(key, (bytes, bytearray)) else key


class Connection:
    """A blocking connection; every wait ends after `timeout` seconds with an error."""

    def __init__(self, port, timeout=10.0, host="127.0.0.1"):
        self.timeout = timeout
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the socket."""
        self.socket.close()

    def send(self, data):
        """Sends raw bytes."""
        self.socket.sendall(data)

    def fill(self):
        """Receives once; raises Closed at the end of the stream."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            raise Closed(bytes(self.buffer), True) from None
        except socket.timeout:
            raise CheckFailed(f"no reply within {self.timeout} s; have "
                              f"{bytes(self.buffer[:80])!r}") from None
        if not data:
            raise Closed(bytes(self.buffer), False)
        self.buffer += data

    def frame(self):
        """The raw bytes of the next reply."""
        while True:
            end = frame_end(self.buffer) if self.buffer else -1
            if end >= 0:
                frame = bytes(self.buffer[:end])
                del self.buffer[:end]
                return frame
            self.fill()

    def take(self, count):
        """The next `count` raw bytes."""
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def reply(self):
        """The next reply, decoded."""
        return decode(self.frame())

    def call(self, *args):
        """Sends one command and returns its reply, decoded (errors as ErrorReply)."""
        self.send(encode(*args))
        return self.reply()

    def ok(self, *args):
        """Sends one command that must not fail."""
        value = self.call(*args)
        require(not isinstance(value, ErrorReply), f"{args[0]}: {value}")
        return value

    def exchange(self, payload, expected, fragments=None):
        """One `Exchange` on this connection; returns `expected`."""
        exchange_all([Exchange(self, payload, expected, fragments)])
        return expected


class Exchange:
    """Sends `payload` while receiving until `expected` (Expected, Frames) is done.

    `fragments` is an iterator of sizes to cut the payload at; each piece is sent by itself.
    """

    def __init__(self, connection, payload, expected, fragments=None):
        self.connection = connection
        self.unsent = memoryview(payload)
        self.expected = expected
        self.fragments = fragments
        self.hand_over()

    def hand_over(self):
        """Gives what the connection has received to `expected`."""
        self.expected.feed(self.connection.buffer)
        self.connection.buffer = bytearray()

    def interest(self):
        """What to poll for; 0 when done."""
        if len(self.unsent):
            return select.POLLIN | select.POLLOUT
        return 0 if self.expected.is_done() else select.POLLIN

    def advance(self, events):
        """Sends and receives what is possible without waiting."""
        if events & ~select.POLLOUT:
            self.connection.fill()
            self.hand_over()
        if events & select.POLLOUT:
            size = next(self.fragments) if self.fragments else 1 << 16
            self.unsent = self.unsent[self.connection.socket.send(self.unsent[:size]):]


def exchange_all(exchanges):
    """Runs exchanges on several connections at once; fails the check if they are not done in time.

    The time is the longest timeout of the connections, for everything together.
    """
    poller = select.poll()
    running = {exchange.connection.socket.fileno(): exchange for exchange in exchanges}
    timeout = max(exchange.connection.timeout for exchange in exchanges)
    deadline = time.monotonic() + timeout
    for fd, exchange in list(running.items()):
        exchange.connection.socket.setblocking(False)
        poller.register(fd, exchange.interest())
    try:
        while running:
            events = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not events:
                raise CheckFailed(f"not done in {timeout} s: " + "; ".join(
                    f"{len(e.unsent)} bytes unsent, {e.expected.describe()}"
                    for e in running.values()))
            for fd, happened in events:
                exchange = running[fd]
                exchange.advance(happened)
                interest = exchange.interest()
                if interest:
                    poller.modify(fd, interest)
                else:
                    poller.unregister(fd)
                    del running[fd]
    finally:
        for exchange in exchanges:
            exchange.connection.socket.settimeout(exchange.connection.timeout)


class Frames:
    """Collects a number of raw replies, whatever they are."""

    def __init__(self, count):
        self.count = count
        self.frames = []
        self.buffer = bytearray()

    def is_done(self):
        """All have come."""
        return len(self.frames) >= self.count

    def describe(self):
        """For messages."""
        return f"{len(self.frames)} of {self.count} replies came"

    def feed(self, data):
        """Cuts what came into replies."""
        self.buffer += data
        position = 0
        while position < len(self.buffer) and (end := frame_end(self.buffer, position)) >= 0:
            self.frames.append(bytes(self.buffer[position:end]))
            position = end
        del self.buffer[:position]


class Expected:
    """What must come back, in order: exact bytes, and one-line replies judged by a function.

    A judge gets the line without CR LF and returns None, or the reason why it is wrong.
    """

    def __init__(self):
        self.parts = collections.deque()
        self.buffer = bytearray()
        self.consumed = 0

    def exact(self, data):
        """Exactly these bytes come next."""
        if self.parts and isinstance(self.parts[-1], bytearray):
            self.parts[-1] += data
        else:
            self.parts.append(bytearray(data))
        return self

    def line(self, judge):
        """A one-line reply comes next."""
        self.parts.append(judge)
        return self

    def is_done(self):
        """All has come."""
        return not self.parts

    def describe(self):
        """For messages."""
        return f"{self.consumed} bytes right so far, {len(self.parts)} parts still to come"

    def feed(self, data):
        """Compares what came; fails the check at the first difference."""
        if not data:
            return
        self.buffer += data
        start = 0
        while self.parts and start < len(self.buffer):
            part = self.parts[0]
            if isinstance(part, bytearray):
                count = min(len(part), len(self.buffer) - start)
                if part[:count] != self.buffer[start:start + count]:
                    self._fail(part, self.buffer[start:start + count])
                if count < len(part):
                    del part[:count]
                    start += count
                    break
                self.parts.popleft()
                start += count
                continue
            line_end = self.buffer.find(b"\r\n", start)
            if line_end < 0:
                break
            line = bytes(self.buffer[start:line_end])
            reason = part(line)
            require(reason is None, f"reply {line[:80]!r}: {reason}")
            self.parts.popleft()
            start = line_end + 2
        self.consumed += start
        del self.buffer[:start]
        require(self.parts or not self.buffer,
                f"more came than was asked for: {bytes(self.buffer[:80])!r}")

    def _fail(self, want, got):
        at = next(i for i, (a, b) in enumerate(zip(want, got)) if a != b)
        low = max(0, at - 60)
        raise CheckFailed(f"wrong or misplaced reply at byte {self.consumed + at} of the stream:\n"
                          f"  want ...{bytes(want[low:at + 60])!r}\n"
                          f"  got  ...{bytes(got[low:at + 60])!r}")
