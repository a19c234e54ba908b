"""Idle cost, SIGSTOP and SIGCONT under load, and the orderly end by SIGTERM and SIGINT."""

import random
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from checks import check, parallel, running, still_serves
from harness import Server, Skip, cpu_ns, require, state, wait_until
from order_check import client
from resp import Closed, Connection, bulk, decode, encode, frame_end

IDLE_SHARE_MAX = 0.005
END_SECONDS_MAX = 5.0


@check(timeout=30, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def idle_costs_nothing(context):
    """After work, with 100 connections open: under 0.5 % of a core per shard."""
    seconds, shards = 30 if context.long else 4, context.configuration.shards
    with context.serve() as server:
        crowd = [Connection(server.port) for _ in range(100)]
        for number, link in enumerate(crowd):
            link.ok("SET", f"k{number}", "v", "EX", 3600)
            link.ok("SET", f"soon{number}", "v", "PX", 500)
        time.sleep(1.0)
        before, started = cpu_ns(server.pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu_ns(server.pid) - before) / 1e9 / (time.monotonic() - started)
        context.note(f"idle: {share / shards:.3%} of a core per shard")
        require(share <= IDLE_SHARE_MAX * shards, f"{share / shards:.2%} of a core per shard")
        for number, link in enumerate(crowd):
            require(link.call("GET", f"k{number}") == b"v", "an idle connection is not served")
            link.close()


@check(timeout=60)
def stopped_and_continued(context):
    """SIGSTOP and SIGCONT at random moments under load: every reply comes, right and in order."""
    rounds = 1000 if context.long else 150
    generator = random.Random(context.seed)
    with context.serve(max_memory="1GiB") as server:
        done = threading.Event()

        def disturb():
            for _ in range(rounds):
                time.sleep(generator.random() * 0.02)
                server.signal(signal.SIGSTOP)
                time.sleep(generator.random() * 0.01)
                server.signal(signal.SIGCONT)
            done.set()

        seconds = rounds * 0.016
        disturber = threading.Thread(target=disturb, daemon=True)
        disturber.start()
        counts = parallel(client, [(server.port, f"s{i}", 4, context.seed, seconds)
                                   for i in range(2)], seconds + 30)
        disturber.join(10)
        require(done.is_set(), "the disturber did not finish")
        # One long stop, with requests waiting in the socket.
        with Connection(server.port) as link:
            link.ok("SET", "k", "v")
            server.signal(signal.SIGSTOP)
            wait_until(lambda: state(server.pid) == "T", 2, "stopped")
            link.send(encode("GET", "k") * 100)
            time.sleep(0.5)
            server.signal(signal.SIGCONT)
            require(link.take(700) == bulk(b"v") * 100, "replies after a stop")
        still_serves(server.port)
    context.note(f"{rounds} stops during {sum(counts)} commands")


@check(timeout=30, shards=(1, 2))
def stopped_while_idle(context):
    """An idle server that was stopped wakes for the next request."""
    with context.serve() as server, Connection(server.port) as link:
        for _ in range(20):
            server.signal(signal.SIGSTOP)
            wait_until(lambda: state(server.pid) == "T", 2, "stopped")
            server.signal(signal.SIGCONT)
            started = time.monotonic()
            require(link.call("PING") == b"PONG", "PING")
            require(time.monotonic() - started < 0.5, "slow to wake")
            time.sleep(0.01)


def talk(port, results):
    """Pipelines until the server goes; what came must be whole, right replies in order."""
    sent = answered = 0
    link = Connection(port)
    name = f"{os.getpid()}:{id(link)}"
    try:
        while True:
            payload = b"".join(encode("INCRBY", f"{name}:{sent + i}", sent + i) for i in range(50))
            link.send(payload)
            sent += 50
            while answered < sent:
                if frame_end(link.buffer) < 0 if link.buffer else True:
                    link.fill()
                    continue
                got = link.reply()
                require(got == answered, f"reply {got!r} instead of {answered}")
                answered += 1
    except Closed as end:
        tail, whole = bytes(end.partial), 0
        while tail and (at := frame_end(tail)) > 0:
            require(decode(tail[:at]) == answered + whole, f"the end: {tail[:60]!r}")
            tail, whole = tail[at:], whole + 1
        results.append((answered + whole, tail, end.was_reset))
    except (BrokenPipeError, ConnectionResetError):
        results.append((answered, b"", True))
    except Exception as error:  # reported by the check
        results.append((answered, repr(error).encode(), False))


def ends_under_load(context, number, clients):
    """Signals a server that so many clients load and sees how it goes; the seconds it took."""
    server = Server.start(context.server, shards=context.configuration.shards,
                          max_memory="256MiB")
    try:
        results = []
        threads = [threading.Thread(target=talk, args=(server.port, results), daemon=True)
                   for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        server.signal(number)
        code = server.wait(END_SECONDS_MAX)
        seconds = time.monotonic() - started
        require(code == 0, f"exit code {code}\n{server.log_tail()}")
        for thread in threads:
            thread.join(5)
        require(len(results) == clients, "a client hangs")
        for answered, tail, _ in results:
            require(answered > 0, "a client was never answered")
            require(not tail, f"a reply was cut: {tail[:80]!r}")
        with socket.socket() as probe:
            refused = probe.connect_ex(("127.0.0.1", server.port))
        require(refused != 0, "somebody still listens")
        return seconds
    finally:
        server.kill()


@check(timeout=40, shards=(1, 2))
def ends_in_order(context):
    """SIGTERM and SIGINT under load: no reply cut in the middle, exit code 0, soon."""
    # One client alone leaves cores without any, whose shards it goes on using.
    for number, clients in ((signal.SIGTERM, 8), (signal.SIGINT, 8), (signal.SIGTERM, 1)):
        seconds = ends_under_load(context, number, clients)
        require(seconds < 2 or clients > 1, f"one client kept it for {seconds:.2f} s")
        context.note(f"{signal.Signals(number).name} under load: ended after {seconds:.2f} s")


@check(timeout=40, shards=(2,))
def ends_despite_its_clients(context):
    """Clients that never read, are idle, or are in the middle of something don't keep it alive."""
    server = Server.start(context.server, shards=context.configuration.shards,
                          max_memory="256MiB")
    try:
        links = [Connection(server.port) for _ in range(30)]
        links[0].ok("SET", "big", b"x" * (1 << 20))
        for number, link in enumerate(links[1:]):
            link.socket.setblocking(False)
            link.socket.send([encode("GET", "big") * 30, encode("MULTI") + encode("SET", "a", "b"),
                              b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nxxx", b"",
                              encode("WATCH", "big")][number % 5] or b"\r\n")
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        code = server.wait(15)
        require(code == 0, f"exit code {code}\n{server.log_tail()}")
        context.note(f"ended {time.monotonic() - started:.2f} s after SIGTERM with stuck clients")
    finally:
        server.kill()


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def half_a_command_is_not_waited_for(context):
    """What no client can finish any more does not delay the end."""
    server = Server.start(context.server, shards=context.configuration.shards,
                          max_memory="256MiB")
    try:
        links = [Connection(server.port) for _ in range(10)]
        for number, link in enumerate(links):
            link.send([b"*2\r\n$3\r\nGET", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$99999\r\nxxx"][number % 2])
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        code = server.wait(15)
        require(code == 0, f"exit code {code}\n{server.log_tail()}")
        seconds = time.monotonic() - started
        require(seconds < 2, f"ended after {seconds:.2f} s")
    finally:
        server.kill()


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def starts_again_at_once(context):
    """The port is free for the next process as soon as the last one is gone."""
    with context.serve() as server:
        port = server.port
        links = [Connection(port) for _ in range(20)]
        for link in links:
            link.ok("PING")
    for link in links:
        link.close()
    with context.serve(port=port) as server:
        require(server.port == port, f"listens on {server.port}, not {port}")
        still_serves(port)


@check(timeout=30, shards=(1,), only="fulmar")
def serves_by_itself(context):
    """`fulmar` alone serves with its defaults (if their ports are free) and says how to try it."""
    for port in (6379, 8379):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                context.note(f"port {port} is taken here: not tried")
                return
    server = Server.spawn([context.server])
    with running(server):
        wait_until(lambda: "listening on" in server.output("stdout") + server.output("stderr"), 10,
                   "listening lines")
        still_serves(6379)
        text = server.output("stdout") + server.output("stderr")
        for word in ("redis-cli", "curl", "base"):
            require(word in text, f"the start lines lack {word}:\n{text}")


@check(timeout=60, shards=(2,), dispatch=("borrow",), only="fulmar")
def slow_system_calls(context):
    """It starts, serves and ends though each io_uring_enter returns 20 ms late: a machine may have no time for it."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", "/dev/null", "true"]).returncode != 0:
        raise Skip("no strace, or it may not trace")
    delay = ("-e", "trace=io_uring_enter", "-e", "inject=io_uring_enter:delay_exit=20000")
    with context.serve(wrapper=(strace, "-D", "-f", "-qq", "-o", "/dev/null", *delay)) as server:
        still_serves(server.port)


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="idle_and_stop"))
