"""Network faults: nodes in network namespaces of their own, and rules that drop packets.

`Network` moves this process into a fresh network and mount namespace, so that nothing of it is
seen from outside and all of it is gone with the last process inside, however that ends. In there
is a bridge, with this process (and the clients it starts) on it, and one namespace for each node,
joined by a veth pair. The addresses exist in these namespaces only.

    this process, 10.213.0.254 --- bridge --- veth --- [node 0, 10.213.0.1]
                                         \\-- veth --- [node 1, 10.213.0.2] ...

A fault is a rule of `nft` in the receiving node's namespace, so it is silent, as a broken switch
is: no reset, no ICMP. Make the network before any thread starts: threads keep their namespace.
"""

import os
import shutil
import subprocess

from harness import LIBC, Skip, require

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
SUBNET = "10.213.0"
HERE = f"{SUBNET}.254"
NODES_MAX = 64


def run(*command, stdin=None):
    """A command that must succeed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20)
    require(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}\n{stdin or ''}")
    return done.stdout


class Network:
    """The bridge, the nodes' namespaces and the faults between them."""

    def __init__(self):
        for tool in ("ip", "nft"):
            if not shutil.which(tool):
                raise Skip(f"{tool} is not installed (Debian: iproute2, nftables)")
        if os.geteuid() != 0:
            raise Skip("network namespaces need root")
        if LIBC.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
            raise Skip("network namespaces are not permitted here")
        self.count = 0
        # Whom each node does not hear: node -> {sender: chance of a packet's loss}.
        self.losses = {}
        try:
            require(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0, "mount /")
            os.makedirs("/run/netns", exist_ok=True)
            require(LIBC.mount(b"tmpfs", b"/run/netns", b"tmpfs", 0, None) == 0, "mount netns")
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "bridge0", "type", "bridge")
            run("ip", "addr", "add", f"{HERE}/24", "dev", "bridge0")
            run("ip", "link", "set", "bridge0", "up")
            self.wrapper(self.add())
            self._apply(0, {HERE: 0.5, None: 0.5})
            self._apply(0, {})
        except Exception as error:
            raise Skip(f"no network of namespaces here: {error}") from None
        self.count = 0

    def add(self):
        """A namespace for one more node; its number."""
        number, self.count = self.count, self.count + 1
        require(number < NODES_MAX, "too many nodes")
        name = f"node{number}"
        if not os.path.exists(f"/run/netns/{name}"):
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0",
                "netns", name)
            run("ip", "link", "set", f"veth{number}", "master", "bridge0", "up")
            run("ip", "-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", link, "up")
        return number

    @staticmethod
    def address(number):
        """The node's address."""
        return f"{SUBNET}.{number + 1}"

    @staticmethod
    def wrapper(number):
        """What goes before a command that runs in the node's namespace (it execs: same pid)."""
        return ["ip", "netns", "exec", f"node{number}"]

    def lose(self, sender, receiver, chance=1.0):
        """Packets from one node to another are lost, all or by chance; 0 mends it.

        `sender` None is everybody, clients included.
        """
        losses = self.losses.setdefault(receiver, {})
        losses.pop(sender, None)
        if chance > 0:
            losses[sender] = chance
        self._apply(receiver, {None if number is None else self.address(number): chance
                               for number, chance in losses.items()})

    def _apply(self, receiver, losses):
        """Replaces the rules in the receiver's namespace, at once."""
        rules = ["table inet faults", "delete table inet faults", "table inet faults {",
                 "chain input {", "type filter hook input priority 0"]
        for address, chance in losses.items():
            source = f"ip saddr {address}" if address else 'iifname "eth0"'
            dice = "" if chance >= 1 else f"numgen random mod 1000 < {round(chance * 1000)}"
            rules.append(f"{source} {dice} drop")
        run(*self.wrapper(receiver), "nft", "-f", "-", stdin="\n".join([*rules, "}", "}", ""]))

    def cut_off(self, number):
        """Nothing reaches the node, and nothing of it the other nodes or the clients."""
        self.lose(None, number)
        for other in range(self.count):
            if other != number:
                self.lose(number, other)

    def partition(self, *sides):
        """Nodes of different sides don't hear each other; this process hears all."""
        for side in sides:
            for other in sides:
                if side is not other:
                    for receiver in side:
                        for sender in other:
                            self.lose(sender, receiver)

    def shake(self, chance):
        """Each packet between nodes is lost with this chance (clients' are not)."""
        for receiver in range(self.count):
            for sender in range(self.count):
                if sender != receiver:
                    self.lose(sender, receiver, chance)

    def heal(self):
        """No faults any more."""
        for receiver in list(self.losses):
            self.losses[receiver] = {}
            self._apply(receiver, {})
