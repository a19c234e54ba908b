"""redis-benchmark and redis-cli, unmodified, as a user would run them."""

import itertools
import re
import shutil
import subprocess
import sys

from checks import check, still_serves
from harness import Skip, raise_nofile_limit, require, wait_until
from resp import Connection, encode

CONNECTIONS = (1, 50, 1000)
PIPELINES = (1, 16, 64)
# PING_INLINE, PING_MBULK, SET, GET, INCR, MSET.
TESTS_COUNT = 6


def tool(server, name, *arguments, stdin=None, timeout=30, exit_code=0):
    """Runs a tool against the server; its output. It must end in time, with that exit code."""
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")
    command = [name, "-h", "127.0.0.1", "-p", str(server.port), *map(str, arguments)]
    text = " ".join(command)
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, **source)
    except subprocess.TimeoutExpired:
        require(False, f"{text}: not done after {timeout} s")
    output = (done.stdout + done.stderr).decode("latin-1")
    require(done.returncode == exit_code, f"{text}: exit code {done.returncode}\n{output[-2000:]}")
    return output


def redis_cli(server, *arguments, **options):
    """Output of redis-cli, without the last line break."""
    return tool(server, "redis-cli", *arguments, **options).rstrip("\n")


@check(timeout=90, shards=(2,), alone=True)
def redis_benchmark(context):
    """PING, SET, GET, INCR, MSET with 1, 50 and 1000 connections, pipelines of 1, 16 and 64."""
    raise_nofile_limit(4096)
    pairs = list(itertools.product(CONNECTIONS, PIPELINES))
    if context.configuration.shards != 2 and not context.long:
        pairs = [(1, 16), (50, 1), (1000, 64)]
    elif context.configuration.dispatch == "message" and not context.long:
        pairs = [(1, 1), (50, 16)]
    with context.serve() as server:
        for connections, pipeline in pairs:
            requests = {1: 2000, 16: 10_000, 64: 20_000}[pipeline]
            requests *= 20 if context.long else 1
            output = tool(server, "redis-benchmark", "-t", "ping,set,get,incr,mset",
                          "-n", requests, "-c", connections, "-P", pipeline, "-r", 100_000,
                          "-d", 32, "--csv", timeout=60)
            rows = re.findall(r'^"([^"]+)","([\d.]+)"', output, re.M)
            require(len(rows) == TESTS_COUNT and all(float(rate) > 0 for _, rate in rows),
                    f"-c {connections} -P {pipeline}: {output}")
            bad = re.search(r"(?im)^.*(error|warning|err |fail).*$", output)
            require(not bad, f"-c {connections} -P {pipeline}: {bad and bad[0]}")
        still_serves(server.port)


@check(timeout=30, dispatch=("borrow",))
def redis_benchmark_of_words(context):
    """A command given as words, with random keys and large values."""
    with context.serve() as server:
        for words in (("SET", "k:__rand_int__", "v", "EX", "100"), ("GETEX", "k:__rand_int__"),
                      ("GET", "k:__rand_int__"), ("DEL", "k:__rand_int__")):
            output = tool(server, "redis-benchmark", "-n", 5000, "-c", 20, "-P", 8, "-r", 1000,
                          "-q", *words)
            require("requests per second" in output and "rror" not in output, output)
        output = tool(server, "redis-benchmark", "-t", "set,get", "-n", 300, "-c", 10,
                      "-d", 300_000, "-r", 20, "-q")
        require(output.count("requests per second") == 2 and "rror" not in output, output)


@check(timeout=30, shards=(1, 2), dispatch=("borrow",))
def redis_cli_single_commands(context):
    """Commands on the command line, from standard input, repeated, and in other formats."""
    with context.serve() as server:
        def cli(*arguments, **options):
            return redis_cli(server, *arguments, **options)

        for arguments, want in (
                (("PING",), "PONG"), (("SET", "k", "v"), "OK"), (("GET", "k"), "v"),
                (("--no-raw", "GET", "k"), '"v"'), (("--no-raw", "GET", "none"), "(nil)"),
                (("--no-raw", "INCR", "n"), "(integer) 1"), (("-3", "--no-raw", "GET", "k"), '"v"'),
                (("-3", "--no-raw", "GET", "none"), "(nil)"), (("-r", "3", "INCR", "n"), "2\n3\n4"),
                (("-n", "0", "GET", "k"), "v"), (("--csv", "MGET", "k", "n"), '"v","4"'),
                (("--json", "-3", "GET", "k"), '"v"')):
            got = cli(*arguments)
            require(got == want, f"redis-cli {' '.join(arguments)}: {got!r}, not {want!r}")
        require(cli("NOSUCH", "a").startswith("ERR unknown command 'NOSUCH', with args"), "NOSUCH")
        require(cli("-x", "SET", "piped", stdin=b"x" * 100_000) == "OK", "-x SET")
        require(len(cli("GET", "piped")) == 100_000, "the value of -x")
        script = b"SET a 1\nINCR a\nMULTI\nINCR a\nGET a\nEXEC\nGET none\nHELLO 3\nGET a\n"
        got = cli(stdin=script).split("\n")
        require(got[:7] == ["OK", "2", "OK", "QUEUED", "QUEUED", "3", "3"], f"script: {got}")
        require(got[-1] == "3", f"script: {got}")


@check(timeout=30, dispatch=("borrow",))
def redis_cli_walks(context):
    """--scan, --bigkeys, --pipe and --latency."""
    count = 5000
    with context.serve() as server:
        load = b"".join(encode("SET", f"key:{i}", "x" * (i % 100)) for i in range(count))
        report = redis_cli(server, "--pipe", stdin=load)
        require(f"errors: 0, replies: {count}" in report, f"--pipe: {report}")
        report = redis_cli(server, "--pipe", stdin=encode("NOSUCH") + encode("SET", "key:0", ""),
                           exit_code=1)
        require("errors: 1, replies: 2" in report, f"--pipe with an error: {report}")
        keys = redis_cli(server, "--scan").split("\n")
        require(sorted(set(keys)) == sorted(f"key:{i}" for i in range(count)), "--scan lost keys")
        keys = redis_cli(server, "--scan", "--pattern", "key:12*").split("\n")
        want = {f"key:{i}" for i in range(count) if str(i).startswith("12")}
        require(set(keys) == want, "--scan --pattern")
        report = redis_cli(server, "--bigkeys", "-i", "0")
        require(f"Sampled {count} keys in the keyspace" in report, f"--bigkeys: {report[-800:]}")
        require(re.search(r'Biggest string found .*"?key:\d*99"?.* has 99 bytes', report),
                f"--bigkeys: {report[-800:]}")
        report = redis_cli(server, "--raw", "--latency", "-i", "1", timeout=10)
        require(int(report.split()[-1]) > 10, f"--latency: {report}")


@check(timeout=20, shards=(1, 2), dispatch=("borrow",))
def redis_cli_info(context):
    """What dashboards read from INFO, CLIENT LIST and CONFIG GET."""
    with context.serve(max_memory="64MiB") as server:
        with Connection(server.port) as connection:
            for i in range(10):
                connection.ok("SET", f"k{i}", "v")
            connection.ok("SET", "with-ttl", "v", "EX", 100)
            connection.ok("GET", "k1")
            connection.ok("GET", "none")
        # Figures of other cores may be a moment old.
        wait_until(lambda: "keyspace_misses:1" in redis_cli(server, "INFO", "stats")
                   and "keys=11" in redis_cli(server, "INFO", "keyspace"), 2, "INFO adds up")
        text = redis_cli(server, "INFO")
        fields = dict(line.split(":", 1) for line in text.replace("\r", "").split("\n")
                      if ":" in line)
        for name in ("redis_version", "process_id", "tcp_port", "uptime_in_seconds",
                     "connected_clients", "maxclients", "used_memory", "used_memory_rss",
                     "maxmemory", "maxmemory_policy", "total_connections_received",
                     "total_commands_processed", "keyspace_hits", "keyspace_misses",
                     "evicted_keys", "expired_keys", "role"):
            require(name in fields, f"INFO has no {name}")
        for name, want in (("process_id", server.pid), ("tcp_port", server.port),
                           ("maxmemory", 64 << 20), ("keyspace_hits", 1), ("keyspace_misses", 1)):
            require(int(fields[name]) == want, f"{name}: {fields[name]}, not {want}")
        require(fields["db0"].startswith("keys=11,expires=1"), f"db0: {fields.get('db0')}")
        sections = re.findall(r"(?m)^# (\w+)", text)
        for name in ("Server", "Clients", "Memory", "Stats", "Keyspace"):
            require(name in sections, f"INFO has no section {name}")
        one = redis_cli(server, "INFO", "keyspace")
        require(re.findall(r"(?m)^# (\w+)", one) == ["Keyspace"], f"INFO keyspace: {one}")
        clients = redis_cli(server, "CLIENT", "LIST")
        require(re.search(r"\bid=\d+ addr=127\.0\.0\.1:\d+ .*\bname=", clients), clients)
        require("maxmemory" in redis_cli(server, "CONFIG", "GET", "maxmemory"), "CONFIG GET")
        with Connection(server.port) as connection:
            connection.ok("SET", "gone", "v", "PX", 1)
            wait_until(lambda: connection.call("EXISTS", "gone") == 0, 1, "it expires")
            wait_until(lambda: "expired_keys:1" in redis_cli(server, "INFO", "stats"), 1,
                       "expired_keys")
            connection.ok("CONFIG", "RESETSTAT")
            for name in ("expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses"):
                wait_until(lambda name=name: f"{name}:0" in redis_cli(server, "INFO", "stats"), 1,
                           f"{name} is 0 after CONFIG RESETSTAT")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="redis_tools"))
