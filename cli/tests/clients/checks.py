"""The registry of checks: what a check is, which configurations it runs in, and its context.

A check is a function of a `Context`, registered by `@check`. It starts the servers it needs by
`context.serve`, which also demands that each ends by SIGTERM with exit code 0. It fails by raising,
and skips by raising `Skip`. The runner runs each in a process of its own, in a session of its own,
so that a hang or a crash ends nothing but itself.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import time
import traceback

from harness import CheckFailed, Server, is_redis, require
from resp import Connection

REGISTRY = {}


@dataclasses.dataclass(frozen=True)
class Check:
    """One registered check."""

    name: str
    function: object
    timeout: float
    shards: tuple
    dispatch: tuple
    only: str
    alone: bool

    def wants(self, configuration, redis):
        """Whether it runs in this configuration of this server."""
        if redis:
            return self.only != "fulmar"
        return ((self.shards is None or configuration.shards in self.shards)
                and (self.dispatch is None or configuration.shards == 1
                     or configuration.dispatch in self.dispatch))


@dataclasses.dataclass(frozen=True)
class Configuration:
    """How the server under test is started."""

    shards: int
    dispatch: str

    def __str__(self):
        return f"shards={self.shards}" + (f",{self.dispatch}" if self.shards > 1 else "")


def check(timeout, shards=None, dispatch=None, only="any", alone=False):
    """Registers a check.

    `timeout` in seconds; `shards` and `dispatch` narrow the configurations (None: all that are
    asked for); `only="fulmar"` leaves it out when the server under test is the referee. `alone`: others
    at the same time would change what it measures.
    """

    def register(function):
        module = os.path.splitext(os.path.basename(function.__code__.co_filename))[0]
        name = f"{module}.{function.__name__}"
        # A module run by itself is loaded twice: as the program and by the runner.
        REGISTRY[name] = Check(name, function, timeout, shards, dispatch, only, alone)
        return function

    return register


class Context:
    """What a check may know: the server under test, the referee, and the run's options."""

    def __init__(self, server, referee, configuration, long, seed):
        self.server = server
        self.referee = referee
        self.configuration = configuration
        self.long = long
        self.seed = seed

    @property
    def is_redis(self):
        """Whether the server under test is the referee itself."""
        return is_redis(self.server)

    @contextlib.contextmanager
    def serve(self, **options):
        """A running server under test; see `Server.start` for options."""
        defaults = {"shards": self.configuration.shards, "max_memory": "256MiB"}
        if self.configuration.shards > 1:
            defaults["dispatch"] = self.configuration.dispatch
        with running(Server.start(self.server, **{**defaults, **options})) as server:
            yield server

    @contextlib.contextmanager
    def serve_referee(self, **options):
        """A running redis-server of the packaged version."""
        with running(Server.start(self.referee, **options)) as server:
            yield server

    def note(self, text):
        """A measured figure, shown by the runner also when the check passes."""
        print(f"note: {text}", flush=True)


@contextlib.contextmanager
def running(server):
    """Stops a server in order at the end, or kills it if the check failed."""
    try:
        yield server
    except BaseException:
        if not server.is_alive():
            print(f"server ended with {server.process.returncode}", flush=True)
        if not server.is_redis:
            print(f"server's output ends:\n{server.log_tail()}", flush=True)
        server.kill()
        raise
    server.stop()


def parallel(function, argument_lists, seconds):
    """Runs `function(*arguments)` in one forked process each; returns their results in order.

    Fails the check if one raises or is not done after `seconds`. Call it from the main thread.
    """
    fork = multiprocessing.get_context("fork")
    workers = []
    for arguments in argument_lists:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_work, args=(function, arguments, sender), daemon=True)
        process.start()
        sender.close()
        workers.append((process, receiver))
    deadline = time.monotonic() + seconds
    results, failures = [], []
    for number, (process, receiver) in enumerate(workers):
        if not receiver.poll(max(0.0, deadline - time.monotonic())):
            failures.append(f"worker {number} hangs after {seconds} s")
            process.kill()
            continue
        try:
            is_ok, value = receiver.recv()
        except EOFError:
            is_ok, value = False, "died"
        (results if is_ok else failures).append(value if is_ok else f"worker {number}: {value}")
    for process, _ in workers:
        process.join(5)
    if failures:
        raise CheckFailed("\n".join(failures))
    return results


def _work(function, arguments, sender):
    try:
        sender.send((True, function(*arguments)))
    except BaseException as error:  # the parent reports it
        text = str(error) if isinstance(error, CheckFailed) else traceback.format_exc()
        sender.send((False, text))


def still_serves(port):
    """Fails unless a new connection is answered and a key can be written and read."""
    with Connection(port, timeout=5) as connection:
        require(connection.call("PING") == b"PONG", "no PONG")
        require(connection.call("SET", "still-serves", "yes") == b"OK", "SET failed")
        require(connection.call("GET", "still-serves") == b"yes", "GET failed")
        require(connection.call("DEL", "still-serves") == 1, "DEL failed")
