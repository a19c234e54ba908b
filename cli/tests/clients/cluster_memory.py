"""A cluster that is full: what is read stays, at its primary and at its copies."""

import random
import sys

from checks import check
from cluster import Cluster
from cluster_data import by_owner, pipeline, value_of
from cluster_resync import Memory
from harness import require, wait_until

VALUE_BYTES = 1000
HIT_RATIO_MIN = 0.98


def hits(replies):
    """How many are values."""
    return sum(reply is not None for reply in replies)


@check(timeout=120, shards=(2,), dispatch=("borrow",), only="fulmar", alone=True)
def what_is_read_outlives_its_primary(context):
    """Hot keys are only read while others are written over and over; then their primary dies."""
    generator = random.Random(context.seed)
    hot = [b"hot:%d" % i for i in range(10_000)]
    with Cluster(context, 3, max_memory="64MiB") as cluster, Memory(cluster):
        links = {node: node.connect(timeout=60) for node in cluster.nodes}
        mine, number = by_owner(cluster, hot), 0
        for owner, keys in mine.items():
            pipeline(links[owner], [("SET", key, value_of(key, VALUE_BYTES)) for key in keys])
        # Three times what the cluster has room for.
        while number < 240_000:
            cold = [b"cold:%d" % i for i in range(number, number + 8000)]
            number += len(cold)
            for owner, keys in by_owner(cluster, cold).items():
                pipeline(links[owner], [("SET", key, value_of(key, VALUE_BYTES)) for key in keys])
                pipeline(links[owner], [("GET", key) for key in mine[owner]])
        for owner, keys in mine.items():
            found = hits(pipeline(links[owner], [("GET", key) for key in keys]))
            require(found == len(keys), f"{owner} has {found} of {len(keys)} hot keys")
        victim = generator.choice(cluster.owners())
        lost = mine[victim]
        evicted = {node: int(node.info("stats")["evicted_keys"]) for node in cluster.nodes}
        require(min(evicted.values()) > 20_000, f"not full: {evicted}")
        victim.kill()
        rest = next(node for node in cluster.nodes if node is not victim)
        wait_until(lambda: victim not in cluster.owners(rest), 10, "a failover")
        ratio = hits(pipeline(links[rest], [("GET", key) for key in lost])) / len(lost)
        context.note(f"{ratio:.4f} of the {len(lost)} hot keys of {victim} are there; "
                     f"evicted before: {list(evicted.values())}")
        require(ratio >= HIT_RATIO_MIN, f"{ratio:.4f} of the hot keys are left")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="cluster_memory"))
