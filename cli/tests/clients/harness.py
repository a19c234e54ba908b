"""Processes for the black-box checks: starting and stopping a server, and reading /proc.

A `Server` is one process that this one started: `fulmar`, or `redis-server` as the referee. It is
always signalled by its own pid, dies with its parent (PR_SET_PDEATHSIG), and listens on 127.0.0.1
only. What the server prints at start is parsed here and nowhere else (`START_LINES`).

Not here: the RESP client (resp.py), the registry of checks and their contexts (checks.py), and
the runner (run.py).
"""

import contextlib
import ctypes
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

START_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 15.0

ANSI = re.compile(r"\x1b\[[0-9;]*m")
START_LINES = {
    "port": re.compile(r"(?im)^.*\bresp\b.*?listening on \S*?:(\d+)"),
    "http_port": re.compile(r"(?im)^.*\bhttp\b.*?listening on \S*?:(\d+)"),
    # "base 12.5 MiB", "fixed base: 13107200 B": what the process may use beyond --max-memory.
    "base": re.compile(r"(?i)\bbase\b[^\d\n]{0,24}(\d+(?:\.\d+)?)\s*([KMG]i?B|bytes|B)\b"),
}
UNITS = {"B": 1, "BYTES": 1, "KIB": 1 << 10, "KB": 1 << 10, "MIB": 1 << 20, "MB": 1 << 20,
         "GIB": 1 << 30, "GB": 1 << 30}
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class CheckFailed(AssertionError):
    """A check found what must not be."""


class Skip(Exception):
    """A check cannot run here; the text says why."""


def require(condition, text):
    """Fails the check with `text` unless `condition` holds."""
    if not condition:
        raise CheckFailed(text)


def wait_until(condition, seconds, what, interval=0.01):
    """Polls `condition` until it is true and returns its value; fails the check after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        require(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(interval)


def metric(server, name):
    """The sum of a figure over the shards, from the metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/-/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"fulmar_{name}{{"))


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago (for servers without `--port 0`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def size_bytes(text):
    """`64MiB` -> 67108864."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)
    return int(match[1]) * UNITS[(match[2] or "B").upper()]


def raise_nofile_limit(count):
    """Lets this process and its children open `count` files; False if the hard limit forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return True
    if hard != resource.RLIM_INFINITY and hard < count:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return True


# ---- /proc readings


def cpu_ns(pid):
    """CPU time of all live threads of a process, user and system, in nanoseconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
    return total


def cpu_ticks_ns(pid):
    """CPU time of a process, ended threads included, at the kernel's clock tick (10 ms)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def status_field(pid, name):
    """A number of /proc/PID/status: `Threads`, or `VmRSS` and `VmHWM` in bytes."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                value = line.split()
                return int(value[1]) * (1024 if line.rstrip().endswith("kB") else 1)
    raise CheckFailed(f"/proc/{pid}/status has no {name}")


def threads_report(pid):
    """What each thread does: name, state, CPU ticks in user and kernel mode, and where in the kernel it waits."""
    lines = []
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        base = f"/proc/{pid}/task/{task}"
        try:
            name, _, rest = open(f"{base}/stat").read().partition("(")[2].rpartition(")")
            fields = rest.split()
            line = f"    | {task} {name}: {fields[0]}, {fields[11]}+{fields[12]} ticks"
            for file in ("wchan", "stack"):
                line += f", {file} " + " ".join(open(f"{base}/{file}").read().split())
        except OSError as error:
            line += f", {error}"
        lines.append(line)
    return "\n".join(lines)


def rss_bytes(pid):
    """VmRSS."""
    return status_field(pid, "VmRSS")


def state(pid):
    """The one-letter state of a process."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


# ---- servers


def is_redis(binary):
    """Whether a path names the referee rather than fulmar."""
    return os.path.basename(binary).startswith(("redis-server", "valkey-server"))


def fulmar_command(binary, options):
    """The command line of a fulmar; ports are chosen by the kernel unless given."""
    command = [binary, "serve", "--bind", "127.0.0.1", "--port", str(options.pop("port", 0))]
    # A port of 0 turns HTTP off, so the kernel cannot be asked to choose this one.
    http_port = options.pop("http_port", None)
    command += ["--http-port", str(free_port() if http_port is None else http_port)]
    for name, value in options.items():
        if value is not None:
            command += ["--" + name.replace("_", "-"), str(value)]
    return command


def redis_command(binary, options):
    """The command line of a referee with what corresponds to `options`."""
    port = options.pop("port", None) or free_port()
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--databases", "1",
               "--appendonly", "no", "--daemonize", "no", "--tcp-backlog", "511"]
    if options.get("max_memory"):
        command += ["--maxmemory", str(size_bytes(options["max_memory"])),
                    "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10"]
    if options.get("maxclients"):
        command += ["--maxclients", str(options["maxclients"])]
    return command, port


def die_with_parent():
    """In the child, between fork and exec: SIGKILL when the thread that forked ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Server:
    """A running server process.

    `port` and `http_port` (None for redis-server or when off) are set once `start` returns;
    `base_bytes` is None if the server printed no base.
    """

    def __init__(self, process, command, directory, is_redis):
        self.process = process
        self.command = command
        self.pid = process.pid
        self.directory = directory
        self.is_redis = is_redis
        self.port = None
        self.http_port = None
        self.base_bytes = None

    @classmethod
    def start(cls, binary, *, wrapper=(), preexec=None, **options):
        """Starts a server and waits until it listens.

        `options` are fulmar's long flags with underscores (`shards=2, max_memory="64MiB"`);
        `wrapper` goes before the command (`["taskset", "-c", "0"]`).
        """
        redis = is_redis(binary)
        port = None
        if redis:
            command, port = redis_command(binary, dict(options))
        else:
            command = fulmar_command(binary, dict(options))
        server = cls.spawn([*wrapper, *command], preexec=preexec, is_redis=redis)
        try:
            server._wait_until_listening(port, options.get("http_port") != 0)
        except BaseException:
            server.kill()
            raise
        return server

    @classmethod
    def spawn(cls, command, *, preexec=None, is_redis=False):
        """Starts any command with stdout and stderr in files of a directory of its own."""
        directory = tempfile.mkdtemp(prefix="fulmar-check-")

        def before_exec():
            die_with_parent()
            if preexec:
                preexec()

        environment = {k: v for k, v in os.environ.items() if not k.startswith("FULMAR_")}
        with open(f"{directory}/stdout", "wb") as out, open(f"{directory}/stderr", "wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       cwd=directory, env=environment, preexec_fn=before_exec)
        return cls(process, command, directory, is_redis)

    def output(self, stream):
        """What the process wrote to `stdout` or `stderr` so far, without colours."""
        with open(f"{self.directory}/{stream}", "rb") as file:
            return ANSI.sub("", file.read().decode("utf-8", "replace"))

    def _wait_until_listening(self, port, wants_http):
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            require(self.process.poll() is None,
                    f"server ended with {self.process.returncode} at start:\n{self.log_tail()}")
            if port is None:
                found = self._read_start_lines(wants_http)
            else:
                found, self.port = self._accepts(port), port
            if found:
                return
            require(time.monotonic() < deadline,
                    f"no listening lines within {START_SECONDS_MAX} s:\n{self.log_tail()}\n"
                    + threads_report(self.pid))
            time.sleep(0.005)

    def _read_start_lines(self, wants_http):
        text = self.output("stdout") + "\n" + self.output("stderr")
        found = {name: pattern.search(text) for name, pattern in START_LINES.items()}
        if not found["port"] or (wants_http and not found["http_port"]):
            return False
        self.port = int(found["port"][1])
        self.http_port = int(found["http_port"][1]) if wants_http else None
        if found["base"]:
            self.base_bytes = int(float(found["base"][1]) * UNITS[found["base"][2].upper()])
        return True

    def _accepts(self, port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def log_tail(self, lines=20):
        """The end of what the server printed, for failure messages."""
        text = self.output("stdout") + self.output("stderr")
        return "\n".join("    | " + line for line in text.splitlines()[-lines:])

    def is_alive(self):
        """Whether the process still runs."""
        return self.process.poll() is None

    def signal(self, number):
        """Sends a signal to the process itself."""
        self.process.send_signal(number)

    def wait(self, seconds):
        """The exit code (negative: a signal); fails the check if it does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            text = f"server did not end within {seconds} s:\n{self.log_tail()}"
            raise CheckFailed(text) from None

    def stop(self):
        """SIGTERM; the server must end by itself with exit code 0."""
        try:
            require(self.is_alive(),
                    f"server died with {self.process.returncode}:\n{self.log_tail()}")
            self.signal(signal.SIGTERM)
            code = self.wait(STOP_SECONDS_MAX)
            require(code == 0, f"exit code {code} after SIGTERM:\n{self.log_tail()}")
        finally:
            self.kill()

    def kill(self):
        """SIGKILL, if it still runs, and removes its directory."""
        if self.is_alive():
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
