"""Bearer tokens: what a client may do at a server, for how long. Stored hashed, in a file that only its owner can read.

A token is `wtsb_ID_SECRET`; ID is public and names it in lists and logs, SECRET has 256 random bits, so one round of
SHA-256 protects it. Scopes, each including the ones before it:

    read          ask anything
    append:GRID   read, and submit the grid of that name: begin attempts at trials within that grid, and append to those
    append        the same for any grid
    admin         everything, verify, compact and backup too
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime

from wtsbench.errors import SpecError, StoreError
from wtsbench.files import exclusive, read_plain, replace
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.trial import id_within
from wtsbench.store.wire import StoreDenied

_TOKEN = re.compile(r"wtsb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_SCOPE = re.compile(r"read|admin|append(:[A-Za-z0-9][A-Za-z0-9._-]*)?")
_RUN_SUFFIX = r"(-\d{8}T\d{6}Z-\d+|-[0-9a-f]{8}-\d+)?"
"""What follows the grid's name in the name of a run: when and by which process it was begun, or for a detached run the
first digits of the grid's digest and a number."""
FILE = "tokens.json"


class Token(Frozen):
    """A token as it is stored."""

    id: str
    name: str
    """Name of its user, for display."""
    scope: str
    hash: str
    """SHA-256 of the secret, in hexadecimal digits."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None = None

    @property
    def state(self) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "valid"


@dataclass(frozen=True)
class Grant:
    """The rights of a client."""

    name: str
    scope: str

    def require_admin(self) -> None:
        """Raise StoreDenied unless everything is allowed."""
        if self.scope != "admin":
            raise StoreDenied(f"token {self.name} has scope {self.scope}; this needs admin", remedy=_OTHER)

    def require_append(self) -> None:
        """Raise StoreDenied unless something may be written."""
        if self.scope == "read":
            raise StoreDenied(f"token {self.name} has scope read; this needs append", remedy=_OTHER)

    def require_grid(self, name: str) -> None:
        """Raise StoreDenied unless this grid may be submitted."""
        self.require_append()
        if self._grid is not None and name != self._grid:
            raise StoreDenied(f"token {self.name} may submit grid {self._grid}, not {name}", remedy=_OTHER)

    @property
    def limited(self) -> bool:
        """Whether the token may write for one grid only, or not at all."""
        return self.scope not in ("admin", "append")

    def require_run(self, run: str, grid: str | None) -> None:
        """Raise StoreDenied unless the run may be written of.

        Args:
            run: its name; with a token for one grid it is one of that grid's.
            grid: the grid that it is of, as far as that is known.
        """
        self.require_append()
        if self._grid is None:
            return
        if re.fullmatch(re.escape(self._grid) + _RUN_SUFFIX, run) is None or grid not in (None, self._grid):
            raise StoreDenied(f"token {self.name} may write of runs of grid {self._grid}, not of {run}", remedy=_OTHER)

    def require_trial(self, trial_id: str, run: str, shared_id: str | None) -> None:
        """Raise StoreDenied unless attempts at a trial may be begun.

        A token for one grid may begin attempts of that grid's runs only, at trials whose ids belong to the grid: so it
        cannot finish a trial that counts for others.
        """
        self.require_append()
        if self._grid is None:
            return
        self.require_run(run, self._grid)
        if shared_id is None or id_within(self._grid, shared_id) != trial_id:
            raise StoreDenied(
                f"token {self.name} may finish trials within grid {self._grid} only, and {trial_id[:12]} is none",
                remedy="update wtsbench, or ask whoever runs the server for a token of scope append.",
            )

    def may_append(self, scope: str | None) -> bool:
        """Whether the client may append to attempts begun with a token of this scope; None for no token."""
        return not self.limited or (self._grid is not None and scope == self.scope)

    @property
    def _grid(self) -> str | None:
        return self.scope.partition(":")[2] or None


_OTHER = "use another token, or ask whoever runs the server for one."
OWNER = Grant("owner", "admin")
"""The rights on the server's local socket: only the owner of the folder can open it."""


class Tokens:
    """The tokens of a store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._known: tuple[tuple[int, int, int] | None, dict[str, Token]] = None, {}
        """State of the file when it was read, and its tokens: one value, because several threads use it."""

    def create(self, *, name: str, scope: str, valid: timedelta | None) -> tuple[Token, str]:
        """Make a token.

        Args:
            name: for display.
            scope: see the module.
            valid: how long it is valid; None for ever.

        Returns:
            The stored form, and the token itself, which is stored nowhere.

        Raises:
            SpecError: there is no such scope.
        """
        if not _SCOPE.fullmatch(scope):
            raise SpecError(f"{scope!r} is no scope", remedy="scopes are read, append:GRID, append and admin.")
        now = datetime.now(UTC)
        secret = secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(6),
            name=name,
            scope=scope,
            hash=_hash(secret),
            created_at=now,
            expires_at=None if valid is None else now + valid,
        )
        with self._changing() as tokens:
            tokens[token.id] = token
        return token, f"wtsb_{token.id}_{secret}"

    def revoke(self, id_or_name: str) -> list[Token]:
        """Revoke a token by its id, or all tokens of a name; those revoked before stay as they are.

        Raises:
            SpecError: there is no such token.
        """
        with self._changing() as tokens:
            meant = [token for token in tokens.values() if id_or_name in (token.id, token.name)]
            if not meant:
                raise SpecError(f"there is no token {id_or_name!r}", remedy="`wtsbench store token list` lists them.")
            now = datetime.now(UTC)
            ended = [token.model_copy(update={"revoked_at": token.revoked_at or now}) for token in meant]
            tokens.update({token.id: token for token in ended})
        return ended

    def all(self) -> list[Token]:
        """Every token, the oldest first."""
        return sorted(self._read().values(), key=lambda token: token.created_at)

    def grant(self, token: str) -> Grant:
        """The rights that a token gives now.

        Raises:
            StoreDenied: it is unknown, revoked or expired. The message never holds the token.
        """
        match = _TOKEN.fullmatch(token)
        stored = self._read().get(match[1]) if match else None
        if match is None or stored is None or not hmac.compare_digest(stored.hash, _hash(match[2])):
            raise StoreDenied(
                "the server does not know the token", remedy="check the file that WTSBENCH_TOKEN_FILE names."
            )
        if stored.state != "valid":
            raise StoreDenied(f"token {stored.name} ({stored.id}) is {stored.state}", remedy=_OTHER)
        return Grant(stored.name, stored.scope)

    def _read(self) -> dict[str, Token]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        cached = self._known
        if seen != cached[0]:  # so that a revocation holds at once
            try:
                listed = json.loads(read_plain(self._path))
                self._known = cached = seen, {row["id"]: Token.model_validate(row) for row in listed}
            except ValueError as error:
                raise StoreError(f"{self._path} is no file of tokens", remedy="restore it, or remove it.") from error
        return cached[1]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(self._folder / f".{FILE}.lock", mode=0o600):
            tokens = dict(self._read())
            yield tokens
            listed = json.dumps([token.model_dump(mode="json") for token in tokens.values()], indent=1)
            replace(self._path, listed, mode=0o600)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
