"""Starts that must fail: one clear line on stderr, a non-zero exit code, at once.

io_uring is forbidden by a seccomp filter, and locked memory by a resource limit, each on the child
alone: nothing on the machine is changed.
"""

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
import sys
import tempfile

from checks import check, still_serves
from harness import LIBC, Server, Skip, fulmar_command, require
from resp import Connection

END_SECONDS_MAX = 10.0
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# The same number on both: the newer system calls share one table.
SYS_IO_URING_SETUP = 425
BPF_LOAD_WORD, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06
SECCOMP_DATA_NUMBER, SECCOMP_DATA_ARCH = 0, 4


class SockFprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def forbid_io_uring(error):
    """For a child before exec: io_uring_setup fails with `error` from now on."""
    architecture = AUDIT_ARCH[platform.machine()]
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in (
        (BPF_LOAD_WORD, 0, 0, SECCOMP_DATA_ARCH),
        (BPF_JUMP_IF_EQUAL, 0, 3, architecture),
        (BPF_LOAD_WORD, 0, 0, SECCOMP_DATA_NUMBER),
        (BPF_JUMP_IF_EQUAL, 0, 1, SYS_IO_URING_SETUP),
        (BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | error),
        (BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ))
    memory = ctypes.create_string_buffer(program, len(program))
    described = SockFprog(len(program) // 8, ctypes.addressof(memory))
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def refuses(context, *words, preexec=None, command=None, **options):
    """The server ends at once with one line on stderr that holds one of `words`."""
    server = Server.spawn(command or fulmar_command(context.server, dict(options)),
                          preexec=preexec)
    try:
        code = server.wait(END_SECONDS_MAX)
        text = server.output("stderr")
        lines = [line for line in text.splitlines() if line.strip()]
        require(code > 0, f"exit code {code}\n{text}")
        require(len(lines) == 1, f"{len(lines)} lines on stderr instead of one:\n{text}")
        require("panicked" not in text, text)
        require(any(word in text.lower() for word in words), f"says none of {words}: {text}")
        context.note(f"exit code {code}: {lines[0]}")
    finally:
        server.kill()


@check(timeout=30, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def port_in_use(context):
    """RESP or HTTP port taken by somebody else, or by another fulmar."""
    shards = context.configuration.shards
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(context, "in use", port=port, shards=shards)
        refuses(context, "in use", http_port=port, shards=shards)
    # SO_REUSEPORT among a process's own cores must not let in a second process.
    with context.serve() as server:
        refuses(context, "in use", port=server.port, shards=shards)
        refuses(context, "in use", http_port=server.http_port, shards=shards)
        still_serves(server.port)


@check(timeout=30, shards=(1,), only="fulmar")
def memory_limits(context):
    """A limit larger than the machine, too small to work with, or not a size."""
    with open("/proc/meminfo") as file:
        total_kib = int(file.readline().split()[1])
    refuses(context, "memory", max_memory=f"{total_kib * 2}KiB")
    refuses(context, "memory", max_memory="100TiB")
    refuses(context, "memory", max_memory="1KiB")


@check(timeout=30, shards=(1,), only="fulmar")
def locked_memory_too_low(context):
    """RLIMIT_MEMLOCK of 16 KiB."""
    def limit():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (16384, 16384))
    refuses(context, "memlock", "locked", preexec=limit)


@check(timeout=30, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def io_uring_forbidden(context):
    """io_uring_setup answers EPERM (container profiles, sysctl) or ENOSYS (old kernels)."""
    if platform.machine() not in AUDIT_ARCH:
        raise Skip(f"no seccomp filter for {platform.machine()}")
    for error in (errno.EPERM, errno.ENOSYS):
        refuses(context, "io_uring", preexec=lambda error=error: forbid_io_uring(error),
                shards=context.configuration.shards)


@check(timeout=30, shards=(1,), only="fulmar")
def bad_flags(context):
    """Values that make no sense; the usage error may take more lines, but never a panic."""
    for arguments in (["--shards", "0"], ["--shards", "abc"], ["--port", "70000"],
                      ["--dispatch", "bogus"], ["--eviction", "lfu"], ["--max-memory", "12parsecs"],
                      ["--bind", "nowhere"], ["--cpus", "9999"], ["--no-such-flag"],
                      ["--config", "/nonexistent/fulmar.toml"], ["--maxclients", "-1"],
                      ["--hot-copy-ms", "1001"]):
        server = Server.spawn([context.server, "serve", *arguments])
        try:
            code = server.wait(END_SECONDS_MAX)
            text = server.output("stderr")
            require(code > 0, f"{arguments}: exit code {code}")
            require(text.strip() and "panicked" not in text, f"{arguments}: {text!r}")
        finally:
            server.kill()


@check(timeout=30, shards=(1,), only="fulmar")
def configuration_file_and_environment(context):
    """Flags beat the environment, the environment beats the file; bad files are one line."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "fulmar.toml")
        with open(path, "w", encoding="ascii") as file:
            file.write("this is not toml")
        refuses(context, "toml", "config", "fulmar.toml", config=path)
        with open(path, "w", encoding="ascii") as file:
            file.write('no-such-setting = 1\n')
        refuses(context, "no-such-setting", "no_such_setting", config=path)
        with open(path, "w", encoding="ascii") as file:
            file.write("maxclients = 77\n")
        environment = ("env", "FULMAR_MAXCLIENTS=88")
        for want, wrapper, options in ((77, (), {}), (88, environment, {}),
                                       (99, environment, {"maxclients": 99})):
            with context.serve(config=path, wrapper=wrapper, **options) as server:
                with Connection(server.port) as link:
                    got = link.ok("CONFIG", "GET", "maxclients")
                    require(got == [b"maxclients", b"%d" % want], f"{got}, not {want}")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="bad_start"))
