#!/usr/bin/env python3
"""Runs the black-box checks of a server binary, one process per check and configuration.

    run.py --server target/release/fulmar                  all checks, all configurations
    run.py --server target/release/fulmar ttl order_check  those whose name contains a word
    run.py --server /usr/bin/redis-server differential     the referee against itself
    run.py --list

Each check module can be run by itself with the same options. The last line is
`N passed, N failed` (and `, N skipped` if some were); the exit code is 0 only if none failed and
at least one passed.
"""

import argparse
import concurrent.futures
import importlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checks import REGISTRY, Configuration, Context  # noqa: E402
from harness import CheckFailed, Skip, is_redis  # noqa: E402

MODULES = ["differential", "random_commands", "redis_py", "redis_tools", "order_check", "fairness",
           "transaction_check", "bad_input", "bad_start", "http_curl", "memory", "ttl",
           "idle_and_stop", "connections", "open_loop", "hot_keys", "cluster_clients", "cluster_plain",
           "cluster_start", "cluster_failover", "cluster_wait", "cluster_partition",
           "cluster_pause", "cluster_resync", "cluster_memory", "cluster_hot_keys"]
SKIP_EXIT_CODE = 77
LIVE = set()
ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))


def parse_options(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of check names (default: all)")
    parser.add_argument("--skip", action="append", default=[], help="part of names to leave out")
    parser.add_argument("--server", default=os.path.join(ROOT, "target/release/fulmar"))
    parser.add_argument("--referee", default=shutil.which("redis-server"))
    parser.add_argument("--shards", default="1,2,4", help="shard counts, comma-separated")
    parser.add_argument("--dispatch", default="borrow,message", help="modes, comma-separated")
    parser.add_argument("--long", action="store_true", help="full sizes instead of short forms")
    parser.add_argument("--seed", type=int, default=None, help="of random checks (default: new)")
    parser.add_argument("--timeout-scale", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=1,
                        help="checks at a time, but for those that measure")
    parser.add_argument("--fail-fast", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.server = os.path.abspath(options.server)
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "little")
    return options


def configurations(options):
    """Each number of shards in each dispatch mode; one shard has nobody to dispatch to.

    The short form takes the last number in the first mode only.
    """
    modes, counts = options.dispatch.split(","), [int(n) for n in options.shards.split(",")]
    for shards in counts:
        is_last = len(counts) > 2 and shards == counts[-1] and not options.long
        for mode in modes[:1] if shards == 1 or is_last else modes:
            yield Configuration(shards, mode)


def selected(options, module):
    """The (check, configuration) pairs to run, in order.

    In the short form, what runs everywhere is spared the two shards that borrow: four do, too.
    """
    redis = is_redis(options.server)
    wanted = [Configuration(1, "none")] if redis else list(configurations(options))
    spared = Configuration(2, "borrow") if len(wanted) > 3 and not options.long else None
    for check in REGISTRY.values():
        if not check.name.startswith(f"{module}." if module else ""):
            continue  # registered by an import only
        if options.words and not any(word in check.name for word in options.words):
            continue
        if any(word in check.name for word in options.skip):
            continue
        for configuration in wanted:
            is_spared = check.shards is None and check.dispatch is None and configuration == spared
            if check.wants(configuration, redis) and not is_spared:
                yield check, configuration


def run_here(options):
    """The child's part: runs one check in this process; returns an exit code."""
    name, shards, mode = options.one.split(":")
    context = Context(options.server, options.referee, Configuration(int(shards), mode),
                      options.long, options.seed)
    try:
        REGISTRY[name].function(context)
    except Skip as reason:
        print(f"skip: {reason}")
        return SKIP_EXIT_CODE
    except CheckFailed as failure:
        print(failure)
        return 1
    return 0


def run_apart(check, configuration, options, output, directory, place):
    """Runs one check in a child; returns its exit code, or None after its timeout.

    Its temporary files, and its servers', go to `directory`; `place` tells it from those that run at
    the same time.
    """
    command = [sys.executable, os.path.abspath(__file__), "--server", options.server,
               "--seed", str(options.seed),
               "--one", f"{check.name}:{configuration.shards}:{configuration.dispatch}"]
    command += ["--referee", options.referee] if options.referee else []
    command += ["--long"] if options.long else []
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                             env={**os.environ, "TMPDIR": directory,
                                  "FULMAR_CHECKS_PLACE": f"{place}/{options.jobs}"},
                             start_new_session=True)
    LIVE.add(child)
    timeout = check.timeout * options.timeout_scale * (8 if options.long else 1)
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill(child)
        child.wait()
        LIVE.discard(child)


def kill(child):
    """Ends a check's session: the check, its workers and its servers, and nothing else."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop(*_):
    """Ends all checks, where this is told to end."""
    for child in list(LIVE):
        kill(child)
    raise SystemExit(128 + signal.SIGTERM)


def judge(check, configuration, options, place):
    """Runs one check; returns what `report` takes."""
    started = time.monotonic()
    with (tempfile.TemporaryDirectory(prefix="fulmar-checks-") as directory,
          tempfile.TemporaryFile() as output):
        code = run_apart(check, configuration, options, output, directory, place)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if code is None:
        text += "\ntimed out"
    verdict = {0: "ok", SKIP_EXIT_CODE: "skip"}.get(code, "FAIL")
    return verdict, f"{check.name} [{configuration}]", time.monotonic() - started, text[-8000:]


def judged(pairs, options):
    """Runs the checks, so many at a time as there are jobs; gives what came of each when it ends.

    Those that measure come last, one at a time.
    """
    places = queue.SimpleQueue()
    for place in range(options.jobs):
        places.put(place)

    def run_one(pair):
        place = places.get()
        try:
            return judge(*pair, options, place)
        finally:
            places.put(place)

    measuring = [pair for pair in pairs if pair[0].alone and options.jobs > 1]
    others = [pair for pair in pairs if pair not in measuring]
    for some, jobs in (others, options.jobs), (measuring, 1):
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            try:
                futures = [pool.submit(run_one, pair) for pair in some]
                for future in concurrent.futures.as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def report(verdict, title, seconds, text):
    """One line per check, with its notes, or with its output when it failed."""
    print(f"{verdict:4} {title}  ({seconds:.1f} s)", flush=True)
    for line in text.splitlines():
        if verdict == "FAIL" or line.startswith(("note: ", "skip: ")):
            print("     " + line, flush=True)


def main(arguments=None, module=None):
    """Entry point; `module` limits it to the checks of one file."""
    options = parse_options(arguments)
    if options.one:
        importlib.import_module(options.one.split(".")[0])
        return run_here(options)
    signal.signal(signal.SIGTERM, stop)
    for name in [module] if module else MODULES:
        importlib.import_module(name)
    pairs = list(selected(options, module))
    if options.list:
        print("\n".join(f"{check.name} [{configuration}]" for check, configuration in pairs))
        return 0
    if not os.access(options.server, os.X_OK):
        print(f"no server binary at {options.server}; build it or name one with --server")
        return 2
    print(f"server {options.server}, seed {options.seed}, {len(pairs)} checks", flush=True)
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for outcome in judged(pairs, options):
        counts[outcome[0]] += 1
        report(*outcome)
        if outcome[0] == "FAIL" and options.fail_fast:
            break
    if counts["FAIL"]:
        print(f"repeat with --seed {options.seed}")
    skipped = f", {counts['skip']} skipped" if counts["skip"] else ""
    print(f"{counts['ok']} passed, {counts['FAIL']} failed{skipped}")
    return 1 if counts["FAIL"] or not counts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
