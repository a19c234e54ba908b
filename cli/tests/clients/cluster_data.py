"""Writing and reading many keys of a cluster at once, for the checks."""

import collections

from cluster import slot_of
from harness import require
from resp import ErrorReply, Frames, Exchange, decode, encode, exchange_all

BATCH = 1000


def value_of(key, size=0):
    """A value that names its key."""
    return b"=%b=" % key + b"x" * size


def write_all(cluster, keys, size=0, wait=0, value=value_of):
    """Sets each key at its owner, in pipelines; `wait` replicas must confirm each batch."""
    for owner, mine in by_owner(cluster, keys).items():
        with owner.connect(timeout=60) as link:
            for start in range(0, len(mine), BATCH):
                batch = mine[start:start + BATCH]
                replies = pipeline(link, [("SET", key, value(key, size)) for key in batch])
                wrong = [reply for reply in replies if reply != b"OK"]
                require(not wrong, f"SET at {owner}: {wrong[:1]}")
                if wait:
                    got = link.call("WAIT", wait, 10_000)
                    require(got == wait, f"WAIT {wait} at {owner}: {got}")


def read_all(cluster, keys, node=None):
    """The values of keys, each asked of its owner, or all of one node (as a plain client)."""
    found = {}
    groups = {node: keys} if node else by_owner(cluster, keys)
    for owner, mine in groups.items():
        with owner.connect(timeout=60) as link:
            for start in range(0, len(mine), BATCH):
                batch = mine[start:start + BATCH]
                found.update(zip(batch, pipeline(link, [("GET", key) for key in batch])))
    return found


def require_all(cluster, keys, size=0, node=None, what="", value=value_of):
    """Fails unless each key has its value."""
    found = read_all(cluster, keys, node)
    lost = [key for key in keys if found[key] is None]
    wrong = {key: found[key] for key in keys if found[key] not in (None, value(key, size))}
    require(not lost and not wrong,
            f"{what}: {len(lost)} of {len(keys)} keys lost {lost[:3]}, {len(wrong)} wrong "
            f"{[(key, str(got)[:60]) for key, got in list(wrong.items())[:3]]}")


def by_owner(cluster, keys):
    """Owner -> its keys."""
    slots, groups = cluster.slots(), collections.defaultdict(list)
    for key in keys:
        owner = slots[slot_of(key)]
        require(owner, f"nobody owns {key!r}")
        groups[owner].append(key)
    return groups


def pipeline(link, commands):
    """Replies of commands that are sent at once; errors as ErrorReply."""
    frames = Frames(len(commands))
    exchange_all([Exchange(link, b"".join(encode(*command) for command in commands), frames)])
    return [decode(frame) for frame in frames.frames]


def is_error(reply, *words):
    """Whether a reply is an error that begins with one of these words."""
    return isinstance(reply, ErrorReply) and (not words or reply.split()[0] in words)
