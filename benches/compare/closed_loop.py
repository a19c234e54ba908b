"""A closed-loop client for RESP and memcached text, so that both are driven by the same program.

Each connection sends a batch, waits for its whole reply, and sends the next, as redis-benchmark
does. Batches are encoded before the clock starts, and replies have one known length, so that the
interpreter's part in a batch is small. Keys must have been stored before (a miss is an error).

    closed_loop.py PORT PROTOCOL OPERATION REQUESTS CONNECTIONS PIPELINE KEYS VALUE_BYTES

Prints one JSON object: rps, p50_ms, p99_ms.
"""

import json
import random
import select
import socket
import sys
import time

BATCHES_PREPARED = 4000
SECONDS_MAX = 120


def request(protocol, operation, key, value):
    """One request."""
    if protocol == "memcached":
        if operation == "get":
            return b"get %b\r\n" % key
        return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)
    if operation == "get":
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
    return (b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            % (len(key), key, len(value), value))


def reply_bytes(protocol, operation, key, value):
    """The length of each reply, errors and misses aside."""
    if protocol == "memcached":
        if operation == "set":
            return len(b"STORED\r\n")
        return len(b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, len(value), value))
    return len(b"$%d\r\n%b\r\n" % (len(value), value)) if operation == "get" else len(b"+OK\r\n")


def numbered_key(number):
    """The key of this number; all are equally long."""
    return b"key:%012d" % number


def main(port, protocol, operation, requests, connections, pipeline, keys, value_bytes,
         key_of=numbered_key):
    """Runs the load; returns the figures."""
    generator, value = random.Random(1), b"x" * value_bytes
    batches = [b"".join(request(protocol, operation, key_of(generator.randrange(keys)), value)
                        for _ in range(pipeline))
               for _ in range(BATCHES_PREPARED)]
    wanted = pipeline * reply_bytes(protocol, operation, key_of(0), value)
    links = {}
    poller = select.epoll()
    for _ in range(connections):
        link = socket.create_connection(("127.0.0.1", port), 10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        links[link.fileno()] = link
        poller.register(link.fileno(), select.EPOLLIN)
    left, unanswered = requests // pipeline, 0
    begun, missing, latencies = {}, {}, []
    clock = time.perf_counter
    started = clock()
    for fd, link in links.items():
        begun[fd], missing[fd] = clock(), wanted
        link.send(batches[left % BATCHES_PREPARED])
        left, unanswered = left - 1, unanswered + 1
    while unanswered:
        events = poller.poll(10)
        if not events or clock() - started > SECONDS_MAX:
            raise SystemExit("no reply: an error or a miss, or the server is gone")
        for fd, _ in events:
            link = links[fd]
            missing[fd] -= len(link.recv(1 << 16))
            if missing[fd] > 0:
                continue
            now = clock()
            latencies.append(now - begun[fd])
            if missing[fd] < 0:
                raise SystemExit("a reply longer than expected: an error")
            if left > 0:
                begun[fd], missing[fd] = now, wanted
                link.send(batches[left % BATCHES_PREPARED])
                left -= 1
            else:
                unanswered -= 1
    seconds = clock() - started
    latencies.sort()
    return {"rps": len(latencies) * pipeline / seconds,
            "p50_ms": latencies[len(latencies) // 2] * 1000,
            "p99_ms": latencies[len(latencies) * 99 // 100] * 1000}


if __name__ == "__main__":
    port_text, protocol_name, operation_name, *numbers = sys.argv[1:]
    print(json.dumps(main(int(port_text), protocol_name, operation_name, *map(int, numbers))))
