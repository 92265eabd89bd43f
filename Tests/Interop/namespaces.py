"""Network namespaces: a server and the rest of the world as two hosts, private to one test process."""

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def inside(namespace):
    """Sockets made in this block belong to the namespace, and stay there."""
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(away, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if _libc.setns(home, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)
        os.close(away)


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def ip(*arguments, namespace=None, check=True):
    return run("ip", *(("-n", namespace) if namespace else ()), *arguments, check=check)


class Namespaces:
    """A server's namespace and a world's namespace, joined by one cable. Everything is private to this process.

        server 10.77.0.1, fd77::1  <── veth ──>  world 10.77.0.2, fd77::2   (default route of the server)
    """

    SERVER = ("10.77.0.1", "fd77::1")
    WORLD = ("10.77.0.2", "fd77::2")
    _number = itertools.count()

    def __init__(self):
        stem = f"tpk{os.getpid()}x{next(self._number)}"
        self.server, self.world = stem + "s", stem + "w"
        self._made = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        for name in (self.server, self.world):
            ip("netns", "add", name)
            self._made.append(name)
            ip("link", "set", "lo", "up", namespace=name)
        ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.world, namespace=self.server)
        for name, (four, six) in ((self.server, self.SERVER), (self.world, self.WORLD)):
            # The link's own address would be there for good two seconds later, which to a browser is another network.
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.cable.accept_dad=0")
            self.add_address(name, four + "/24")
            self.add_address(name, six + "/64")
            ip("link", "set", "cable", "up", namespace=name)
        for name, (four, six) in ((self.server, self.WORLD), (self.world, self.SERVER)):
            ip("route", "add", "default", "via", four, namespace=name)
            ip("-6", "route", "add", "default", "via", six, namespace=name)

    def add_address(self, name, address):
        quiet = ("nodad",) if ":" in address else ()
        ip("addr", "add", address, "dev", "cable", *quiet, namespace=name)

    def close(self):
        for name in reversed(self._made):
            ip("netns", "del", name, check=False)
        self._made.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def remove_stale_namespaces():
    """A killed test run leaves its namespaces behind, and programs that run in them; their owner's process id is in the
    name."""
    for line in ip("netns", "list").stdout.splitlines():
        match = re.match(r"tpk(\d+)x\d+[a-z]\w*\b", line)
        if match and not Path(f"/proc/{match[1]}").exists():
            for pid in ip("netns", "pids", match[0], check=False).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", match[0], check=False)
