"""Medians and Markdown from measured rounds."""

import os
import platform
import shutil
import statistics

from scenarios import CONTROL, KEYS_COUNT, RATIO_LIMITS, RISE_LIMITS, VALUE_BYTES
from subjects import version


def median(rounds, field):
    """The median of a figure over all rounds."""
    return statistics.median(one[field] for one in rounds)


def machine(options):
    """Hardware, kernel and versions, one a line."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory_gib = int(file.readline().split()[1]) / 2**20
    lines = [f"{os.cpu_count()} x {models[0] if models else platform.machine()}, "
             f"{memory_gib:.0f} GiB, Linux {platform.release()}"]
    for kind, binary in (("redis", shutil.which("redis-server")),
                         ("memcached", shutil.which("memcached")), ("fulmar", options.fulmar)):
        if found := version(kind, binary):
            lines.append(found)
    # What else ran in the last minute shares caches and cores with what was measured.
    lines.append(f"load average at the end of the run {os.getloadavg()[0]:.1f}")
    return lines


def table(scenario, results):
    """One scenario's table; ratios are to the first subject."""
    lines = [f"### {scenario.title}", "",
             f"{scenario.connections} connections, {KEYS_COUNT:,} random keys, {VALUE_BYTES} B "
             f"values, servers on CPU {scenario.server_cpus}, client on {scenario.client_cpus}; "
             "medians, ratios to the first line in parentheses.", "",
             "| op | server | CPU us/op | min - max | k ops/s | p50 ms | p99 ms |",
             "|---|---|---|---|---|---|---|"]
    for operation in scenario.operations:
        rows = [(subject, rounds) for (subject, done), rounds in results.items()
                if done == operation]
        for subject, rounds in rows:
            first = rows[0][1]

            def cell(field, form, scale=1.0, first=first, rounds=rounds):
                value, base = median(rounds, field), median(first, field)
                ratio = f" ({value / base:.2f})" if rounds is not first and base else ""
                return format(value * scale, form) + ratio

            cpu = [one["cpu_us"] for one in rounds]
            lines.append(f"| {operation.upper()} | {subject.name} | {cell('cpu_us', '.2f')} | "
                         f"{min(cpu):.2f} - {max(cpu):.2f} | {cell('rps', '.0f', 1e-3)} | "
                         f"{cell('p50_ms', '.3f')} | {cell('p99_ms', '.3f')} |")
    return lines + counters(results)


def counters(results):
    """Doorbells and borrows per operation, where a server counts them."""
    lines = []
    for (subject, operation), rounds in results.items():
        names = sorted({name for one in rounds for name in one["counters"]})
        if subject.shards > 1 and names:
            figures = ", ".join(
                f"{name} {statistics.median(one['counters'].get(name, 0) for one in rounds):.4f}"
                for name in names)
            lines.append(f"- {subject.name}, {operation.upper()}, per operation: {figures}")
    return ["", *lines] if lines else []


def verdicts(all_results):
    """Each limit with its figure and whether it holds; limits without figures are left out."""
    lines, is_ok = [], True

    def compared(scenario, subject, base, operation, what):
        results = all_results.get(scenario, {})
        if (subject, operation) not in results or (base, operation) not in results:
            return None
        value, against = (median(results[one, operation], "cpu_us") for one in (subject, base))
        return value / against if what == "ratio" else value - against

    for limits, what in ((RATIO_LIMITS, "ratio"), (RISE_LIMITS, "rise")):
        for scenario, subject, base, limit in limits:
            control = compared(scenario, subject, base, CONTROL, what)
            for operation in ("get", "set"):
                figure = compared(scenario, subject, base, operation, what)
                if figure is None:
                    continue
                holds = figure <= limit
                is_ok &= holds
                unit = "x" if what == "ratio" else " us"
                lines.append(f"{'holds' if holds else 'FAILS'}: {scenario} {operation.upper()}, "
                             f"{subject.name} against {base.name}: {figure:.2f}{unit}, "
                             f"limit {limit:.2f}{unit}"
                             + (f" ({CONTROL}, which needs no shard: {control:.2f}{unit})"
                                if control is not None else ""))
    return lines, is_ok


def markdown(scenarios, all_results, commands, options):
    """The whole report."""
    lines = ["## Side by side", "", *(f"- {line}" for line in machine(options)),
             f"- {options.rounds} rounds, interleaved; CPU is user and system time of all threads",
             ""]
    for scenario in scenarios:
        if all_results.get(scenario.name):
            lines += [*table(scenario, all_results[scenario.name]), "", "```text",
                      *commands[scenario.name], "```", ""]
    return "\n".join(lines)
