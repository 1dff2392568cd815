"""Who may ask a server: which addresses it listens on, by which names it is called, and the token."""

from __future__ import annotations

import hmac
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qs

from voxward.core.errors import UserError

LOOPBACK = "127.0.0.1"
AUTO = "auto"
"""The word that stands for a token which the server draws."""
SHORTEST = 16

_LEGAL = re.compile(r"[A-Za-z0-9._~-]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        host: The address or name that the server listens on.
        token: What everybody who asks must know; None: everybody on this machine may ask.
    """

    host: str = LOOPBACK
    token: str | None = None

    @classmethod
    def of(cls, host: str = LOOPBACK, token: str | None = None) -> Access:
        """Check what a user asked for, and draw the token where the user leaves that to us.

        Args:
            host: The address or name to listen on.
            token: The token, `auto`, or None.

        Raises:
            UserError: Other machines could ask without a token, or the token is short or holds other characters than
                letters, digits and `._~-`.
        """
        if not host or _HOST.fullmatch(_bracketed(host)) is None:
            raise UserError(f"host must be an address or a name of this machine, such as 0.0.0.0, got {host!r}")
        if token == AUTO:
            token = secrets.token_urlsafe(24)
        if token is None and not is_loopback(host):
            raise UserError(
                f"host {host} lets other machines read the report, which holds medical images: that needs a token of "
                f"at least {SHORTEST} characters; --token auto draws one"
            )
        if token is not None and (len(token) < SHORTEST or _LEGAL.fullmatch(token) is None):
            # Not the token itself: messages end up in logs.
            raise UserError(
                f"token must be auto, or at least {SHORTEST} letters, digits and . _ ~ -, got one of {len(token)} "
                "characters"
            )
        return cls(host, token)

    def knows(self, names: Iterable[str]) -> bool:
        """Return whether a request calls the server by a name of its own.

        A page of another site may let its own name lead to this machine. Such a request has the name of that site.

        Args:
            names: The values of the header Host, of which there must be one.
        """
        given = list(names)
        found = _HOST.fullmatch(given[0].strip()) if len(given) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        if is_loopback(name) or name == self.host.lower():
            return True
        # Who listens on all addresses is called by any of them, or by the name of the machine.
        return _is_any(self.host) and (_address(name) is not None or name in _own_names())

    def admits(self, headers: Message, query: str, cookie: str) -> bool:
        """Return whether a request knows the token; every comparison takes the same time.

        Args:
            headers: The headers of the request.
            query: The query of the request.
            cookie: The name of the cookie that may hold the token.
        """
        return self.token is None or any(
            hmac.compare_digest(each.encode("utf-8", "replace"), self.token.encode())
            for each in (*_bearer(headers), *_cookies(headers, cookie), *in_query(query))
        )


def in_query(query: str) -> list[str]:
    """Return what a query gives as token."""
    try:
        return parse_qs(query, max_num_fields=20).get("token", [])
    except ValueError:
        return []


def is_loopback(host: str) -> bool:
    """Return whether an address or a name can be reached from this machine only."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_any(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _own_names() -> tuple[str, ...]:
    name = socket.gethostname().lower()
    return name, f"{name}.local"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bearer(headers: Message) -> list[str]:
    kind, _, value = str(headers.get("Authorization", "")).partition(" ")
    return [value.strip()] if kind.lower() == "bearer" else []


def _cookies(headers: Message, name: str) -> list[str]:
    pairs = [pair.strip().partition("=") for pair in str(headers.get("Cookie", "")).split(";")]
    return [value for key, _, value in pairs if key == name]
