"""The process of a cluster load: one loop over nonblocking sockets, and the judge of its replies.

cluster_load.py says what it does; it is steered by messages through a pipe. A key has at most one
write on its way at a time, and a write that failed may still come true later, or not: reading it is
right at any time.
"""

import collections
import dataclasses
import errno
import gc
import random
import selectors
import signal
import socket
import struct
import time
import traceback

from cluster import RANGE_SLOTS, slot_of
from harness import CheckFailed, die_with_parent, require
from resp import ErrorReply, decode, encode, frame_end

TIMEOUT_SECONDS = 0.5
WRITE_SHARE = 0.2
REDIRECTIONS_MAX = 5
FLAWS_MAX = 20
# A node that did not answer is not asked until it answers a probe; this often there is one.
PROBE_SECONDS = 0.1


@dataclasses.dataclass
class Sample:
    """One request: when it was due, of which range, its latency or its failure."""

    due: float
    range: int
    seconds: float = None
    failure: str = None


def run_load(settings, pipe):
    """The process's whole life."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A collection would stop the load for as long as it takes to look at all samples.
    gc.disable()
    try:
        _Loop(pipe, **settings).run()
    except BaseException as error:  # the check reports it
        text = str(error) if isinstance(error, CheckFailed) else traceback.format_exc()
        pipe.send((False, text))


class _Key:
    """What is known of one key."""

    def __init__(self, name):
        self.name = name
        self.range = slot_of(name) // RANGE_SLOTS
        self.sent = self.acknowledged = self.waited = 0
        self.is_forgiven = self.is_being_written = False
        # Writes of which nobody knows whether, or when, they were executed.
        self.unknown = set()


class _Request:
    """One request on its way."""

    __slots__ = ("sample", "key", "payload", "count", "floor", "waited_floor", "counter", "hops",
                 "is_waited", "was_forgiven")

    def __init__(self, due, key, counter, is_waited, value_bytes):
        self.sample = Sample(due, key.range)
        self.key, self.counter, self.hops, self.is_waited = key, counter, 0, is_waited
        self.floor, self.waited_floor = key.acknowledged, key.waited
        self.was_forgiven = key.is_forgiven
        if counter:
            self.payload = encode("SET", key.name, b"%b=%d=" % (key.name, counter)
                                  + b"x" * value_bytes)
        else:
            self.payload = encode("GET", key.name)
        if is_waited:
            self.payload += encode("WAIT", 1, int(TIMEOUT_SECONDS * 1000))


class _Link:
    """One connection; replies come in order."""

    def __init__(self, loop, address):
        self.loop, self.address = loop, address
        self.pending = collections.deque()
        # Whether the first pending request's WAIT is all that it lacks, and counts.
        self.is_waiting = self.wait_counts = False
        self.received = bytearray()
        # Who asks for the map is a cluster client from then on.
        self.unsent = bytearray(encode("PING") if loop.plain else encode("CLUSTER", "NODES"))
        self.has_answered = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What a cut network held up must not come to a node, from the kernel, when nobody knows of it
        # any more: the next load counts from 1 again.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.is_open = True
        loop.open.add(self)
        self.interest = selectors.EVENT_READ | selectors.EVENT_WRITE
        self.socket.connect_ex(address)
        loop.selector.register(self.socket, self.interest, self)

    def send(self, request):
        """Puts a request on its way."""
        self.pending.append(request)
        self.unsent += request.payload
        self.flush()

    def flush(self):
        """Sends what the socket takes."""
        try:
            if self.unsent:
                del self.unsent[:self.socket.send(self.unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            # A connection that is still being made says ENOTCONN or EAGAIN.
            if error.errno != errno.ENOTCONN:
                return self.close(error.strerror)
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        if self.is_open and interest != self.interest:
            self.interest = interest
            self.loop.selector.modify(self.socket, interest, self)
        return None

    def receive(self):
        """Takes what has come."""
        try:
            data = self.socket.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error.strerror)
            return
        if not data:
            self.close("closed")
            return
        self.received += data
        position = 0
        while self.is_open and position < len(self.received):
            end = frame_end(self.received, position)
            if end < 0:
                break
            frame, position = bytes(self.received[position:end]), end
            if not self.has_answered:
                self.has_answered = True
                self.loop.avoided.pop(self.address, None)
                continue
            require(self.pending, f"a reply without a request: {frame[:80]!r}")
            request, reply = self.pending[0], decode(frame)
            if self.is_waiting:
                self.is_waiting = False
                self.pending.popleft()
                if self.wait_counts and reply and isinstance(reply, int):
                    request.key.waited = max(request.key.waited, request.counter)
            elif request.is_waited:
                self.is_waiting = True
                self.wait_counts = self.loop.answered(self, request, reply)
            else:
                self.pending.popleft()
                self.loop.answered(self, request, reply)
        del self.received[:position]
        if self.loop.plain and self.is_open and self.has_answered and not self.pending:
            self.loop.idle[self.address].append(self)

    def close(self, why):
        """Ends it; what was on its way has failed."""
        if not self.is_open:
            return
        self.is_open = False
        self.loop.open.discard(self)
        self.loop.selector.unregister(self.socket)
        self.socket.close()
        # A plain client's node may have waited for another, which is not its fault.
        if why != "no answer" or not self.loop.plain or not self.has_answered:
            self.loop.lost(self)
        for index, request in enumerate(self.pending):
            if index or not self.is_waiting:
                self.loop.failed(request, why)
        self.pending.clear()


class _Loop:
    """The open loop."""

    def __init__(self, pipe, addresses, table, keys, rate, plain, waited_share, value_bytes, seed):
        self.pipe, self.addresses, self.plain = pipe, addresses, plain
        self.table = table
        self.keys = [_Key(name) for name in keys]
        self.rate, self.waited_share, self.value_bytes = rate, waited_share, value_bytes
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.selector.register(pipe, selectors.EVENT_READ, None)
        self.links, self.avoided, self.open = {}, {}, set()
        # A plain client's connections without a request on its way; it has one for each request, so
        # that none waits for another's forwarding.
        self.idle = collections.defaultdict(list)
        self.samples, self.flaws = [], []
        self.redirections = self.hits = self.misses = 0
        self.is_over = False

    def run(self):
        """Until told to stop."""
        self.warm()
        interval, self.next_due = 1.0 / self.rate, time.monotonic()
        next_sweep = 0.0
        while not self.is_over:
            now = time.monotonic()
            while self.next_due <= now:
                self.issue(self.next_due)
                self.next_due += interval
            if now >= next_sweep:
                self.sweep(now)
                next_sweep = now + 0.02
            # Not below a millisecond: what is due within it is sent at its end.
            wait = max(0.001, self.next_due - time.monotonic())
            for item, events in self.selector.select(wait):
                if item.data is None:
                    self.hear(self.pipe.recv())
                    continue
                if events & selectors.EVENT_READ and item.data.is_open:
                    item.data.receive()
                if events & selectors.EVENT_WRITE and item.data.is_open:
                    item.data.flush()

    def hear(self, message):
        """A word from the check."""
        answer = None
        if message[0] == "fault":
            hit = set(message[1])
            for key in self.keys:
                key.is_forgiven = key.is_forgiven or key.range in hit
        elif message[0] == "settled":
            for key in self.keys:
                if key.is_forgiven:
                    key.is_forgiven, key.acknowledged = False, key.waited
        elif message[0] == "stop":
            self.is_over = True
            answer = dict(samples=self.samples, flaws=self.flaws, redirections=self.redirections,
                          hits=self.hits, misses=self.misses)
        self.pipe.send((True, answer))

    def warm(self):
        """Each key has a value that WAIT confirmed before the first sample counts."""
        for key in self.keys:
            key.sent += 1
            request = _Request(time.monotonic(), key, key.sent, True, self.value_bytes)
            self.forward(request, self.target(key))
        end = time.monotonic() + 10
        while not all(key.waited for key in self.keys) and time.monotonic() < end:
            for item, events in self.selector.select(0.1):
                if item.data is not None and item.data.is_open:
                    if events & selectors.EVENT_WRITE:
                        item.data.flush()
                    if item.data.is_open and events & selectors.EVENT_READ:
                        item.data.receive()
        cold = sum(not key.waited for key in self.keys)
        require(not cold, f"{cold} of {len(self.keys)} keys not confirmed by WAIT 1 in 10 s")
        self.samples.clear()
        self.next_due = time.monotonic()

    def issue(self, due):
        """One request at its time."""
        key = self.random.choice(self.keys)
        counter, is_waited = 0, False
        # One write of a key at a time: else their order would be anybody's guess.
        if self.random.random() < WRITE_SHARE and not key.is_being_written:
            key.is_being_written = True
            key.sent += 1
            counter, is_waited = key.sent, self.random.random() < self.waited_share
        address = self.target(key)
        if is_waited and not self.plain:
            # Behind a WAIT that nobody can confirm a write would only be late.
            link = self.links.get((address, True))
            is_waited = link is None or not link.pending
        self.forward(_Request(due, key, counter, is_waited, self.value_bytes), address)

    def target(self, key):
        """Whom to ask."""
        if self.plain:
            return self.somebody()
        address = self.table[slot_of(key.name)]
        return self.somebody() if address in self.avoided else address

    def somebody(self):
        """Any node that is not known to be silent."""
        known = [address for address in self.addresses if address not in self.avoided]
        return self.random.choice(known or self.addresses)

    def forward(self, request, address):
        """Sends it there; what waits for WAIT goes by a connection of its own."""
        if self.plain:
            idle = self.idle[address]
            while idle and not idle[-1].is_open:
                idle.pop()
            (idle.pop() if idle else _Link(self, address)).send(request)
            return
        name = (address, request.is_waited)
        link = self.links.get(name)
        if link is None or not link.is_open:
            link = self.links[name] = _Link(self, address)
        link.send(request)

    def sweep(self, now):
        """Ends connections that have not answered in time; tries avoided nodes again."""
        for link in list(self.open):
            # WAIT has its own time-out, which comes on top.
            first = link.pending[0] if link.pending else None
            if link.is_open and first and (
                    now - first.sample.due
                    > TIMEOUT_SECONDS * (3 if link.is_waiting else 1) + 0.05):
                link.close("no answer")
        for address, next_probe in list(self.avoided.items()):
            if now > next_probe:
                self.avoided[address] = now + PROBE_SECONDS
                probe = self.links.get((address, "probe"))
                if probe and probe.is_open:
                    probe.close("no answer")
                self.links[(address, "probe")] = _Link(self, address)

    def lost(self, link):
        """A connection has ended."""
        self.avoided.setdefault(link.address, 0.0)

    def failed(self, request, why):
        """A request that will not be answered."""
        request.sample.failure = why
        self.samples.append(request.sample)
        if request.counter:
            request.key.unknown.add(request.counter)
            request.key.is_being_written = False

    def answered(self, link, request, reply):
        """A request's reply; whether it was its last, and good."""
        now = time.monotonic()
        if isinstance(reply, ErrorReply):
            words = reply.split()
            if words[0] == "MOVED" and request.hops < REDIRECTIONS_MAX and not self.plain:
                self.redirections += 1
                request.hops += 1
                host, _, port = words[2].rpartition(":")
                address = (host or link.address[0], int(port))
                # The whole map takes Python a tenth of a second, in which it measures itself.
                first = int(words[1]) // RANGE_SLOTS * RANGE_SLOTS
                self.table[first:first + RANGE_SLOTS] = [address] * RANGE_SLOTS
                self.forward(request, address)
                return False
            self.failed(request, str(reply))
            return False
        request.sample.seconds = now - request.sample.due
        if request.sample.seconds > TIMEOUT_SECONDS:
            request.sample.failure = "late"
        self.samples.append(request.sample)
        key = request.key
        if not request.counter:
            self.judge(request, reply)
            return True
        key.is_being_written = False
        if reply != b"OK":
            self.flaw(f"SET {key.name!r}: {reply!r}")
        key.acknowledged = max(key.acknowledged, request.counter)
        return True

    def judge(self, request, reply):
        """Whether the value of a GET may be."""
        key, counter = request.key, 0
        if reply is None:
            self.misses += 1
        else:
            self.hits += 1
            name, number, _ = (reply.split(b"=", 2) + [b"", b""])[:3]
            counter = int(number) if number.isdigit() else -1
            if name != key.name or not 0 < counter <= key.sent:
                self.flaw(f"GET {key.name!r}: another key's value, or none's: {reply[:60]!r}")
                return
        forgiven = request.was_forgiven or key.is_forgiven
        floor = request.waited_floor if forgiven else request.floor
        if counter in key.unknown:
            return
        if counter < floor:
            self.flaw(f"GET {key.name!r} gave write {counter}, but {floor} was "
                      f"{'confirmed by WAIT' if forgiven else 'acknowledged'} before it was sent")
        elif not forgiven:
            key.acknowledged = max(key.acknowledged, counter)

    def flaw(self, text):
        """A reply that must not be."""
        if len(self.flaws) < FLAWS_MAX:
            self.flaws.append(text)
