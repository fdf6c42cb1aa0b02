"""Who may write: bearer API keys, of which only hashes are kept; without any, clients on the same machine.

A key has 256 random bits, so one round of SHA-256 is enough: there is no guessing it, slowly or fast.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from kedge.errors import BadInput

_PREFIX = "sha256:"
_HASH = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class NewKey(NamedTuple):
    plain: str
    """Shown once, never kept."""
    hash: str
    """What the configuration holds."""


class Denied(NamedTuple):
    status: int
    reason: str


def new_key() -> NewKey:
    """A fresh API key and the hash that is configured for it."""
    plain = f"kedge_{secrets.token_urlsafe(32)}"
    return NewKey(plain, hash_key(plain))


def hash_key(plain: str) -> str:
    return _PREFIX + hashlib.sha256(plain.encode()).hexdigest()


class Keys:
    """The keys that are accepted.

    Without keys, only direct connections over loopback pass: no request that a proxy forwarded, and none that
    a web page of another origin made from a browser on this machine.
    """

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        """Raises BadInput for what is not `sha256:` and 64 hexadecimal digits, without repeating it."""
        given = tuple(hashes)
        for number, value in enumerate(given, 1):
            if not _HASH.fullmatch(value):
                raise BadInput("is not the hash of a key (sha256: and 64 hex digits)", f"key {number}")
        self._hashes = tuple(_PREFIX + value.removeprefix(_PREFIX) for value in given)

    @classmethod
    def load(cls, path: Path) -> "Keys":
        """From a file with one hash a line; empty lines and `#` comments are passed over. Raises BadInput."""
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise BadInput(error.strerror or "cannot be read", str(path)) from None
        except UnicodeDecodeError:
            raise BadInput("is not UTF-8 text", str(path)) from None
        hashes = []
        for number, line in enumerate(lines, 1):
            value = line.partition("#")[0].strip()
            if value and not _HASH.fullmatch(value):
                raise BadInput("is not the hash of a key (sha256: and 64 hex digits)", f"{path}:{number}")
            if value:
                hashes.append(value)
        return cls(hashes)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def describe(self) -> str:
        """The sentence that is said at start."""
        if not self._hashes:
            return "No API key is configured: only clients on this machine (loopback) may send logs."
        count = len(self._hashes)
        return f"Clients send logs with one of {count} API key{'s' if count > 1 else ''}."

    def check(self, headers: Mapping[str, str], client: str | None) -> Denied | None:
        """None where the request may pass. `headers` by lower-case name; `client` is the peer's address."""
        return self._check_key(headers) if self._hashes else _check_local(headers, client)

    def _check_key(self, headers: Mapping[str, str]) -> Denied | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            return Denied(401, "an API key is needed: Authorization: Bearer KEY")
        hashed = hash_key(given.strip())
        # All are compared, each in constant time: how long it takes tells nothing of the keys.
        matches = [hmac.compare_digest(hashed, known) for known in self._hashes]
        return None if any(matches) else Denied(401, "the API key is not known")


def _check_local(headers: Mapping[str, str], client: str | None) -> Denied | None:
    forwarded = any(name in headers for name in _FORWARDED)
    foreign = "origin" in headers and not is_loopback(urlsplit(headers["origin"]).hostname)
    if is_loopback(client) and not forwarded and not foreign:
        return None
    return Denied(
        403, "no API key is configured, so only clients on the same machine may write: configure one"
    )


def is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
