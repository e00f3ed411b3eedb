"""Ports that a server of ours may listen on."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOCAL_HOST = "127.0.0.1"
# Two programs that choose among so many at once hardly ever choose the same.
WIDTH = 12_000
LOWEST = 1024
_KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def check_port(port: int, host: str = LOCAL_HOST) -> None:
    """Raise OSError if no server can listen on a port (0: the kernel chooses one)."""
    _listened_on(port, host)


def free_port() -> int:
    """A port of this machine that nobody listens on.

    Not one of those the kernel gives to connections, where there are others: any connection could
    have it before its server starts, or while its server is stopped.
    """
    try:
        end = int(_KERNELS_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        end = LOWEST
    ports = range(max(end - WIDTH, LOWEST), end)
    for _ in range(len(ports) // 10):
        try:
            return _listened_on(secrets.choice(ports), LOCAL_HOST)
        except OSError:
            continue
    return _listened_on(0, LOCAL_HOST)


def _listened_on(port: int, host: str) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        probe.bind((host, port))
        return int(probe.getsockname()[1])
