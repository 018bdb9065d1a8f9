"""Addresses to listen at, of IPv4 and IPv6."""

from __future__ import annotations

import socket


def family_of(host: str) -> socket.AddressFamily:
    """Of the socket that listens at an address, or at a name such as localhost."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(host: str, port: int, scheme: str = "http") -> str:
    """How to ask somebody who listens there."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
