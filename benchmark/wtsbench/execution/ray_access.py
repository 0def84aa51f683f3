"""The settings with which this process connects to Ray, or starts it: above all, which token it sends.

Ray 2.60 sends a token if RAY_AUTH_MODE says so. A driver that sends none to a cluster that requires one tries for 20 s
and then reports that there is no cluster. Here the cluster is asked first (`ray_probe`) whether it requires one. The
token is where Ray looks for it: RAY_AUTH_TOKEN, else the file that RAY_AUTH_TOKEN_PATH names, else ~/.ray/auth_token.
https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wtsbench.errors import ClusterError
from wtsbench.execution import ray_probe

CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 20.0
"""Time limit of the probe's process, which loads Ray; a cluster itself answers within milliseconds."""
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_DEFAULT_FILE = "~/.ray/auth_token"
UV_RUN = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
_ELSEWHERE = "check --ray / RAY_ADDRESS, or run without a cluster with --executor in-process."
_GET_TOKEN = (
    f"`ray get-auth-token` prints the cluster's token on a machine that has it: keep it here in {_DEFAULT_FILE},\n"
    f"or name its file with {_TOKEN_PATH}."
)


def token_for(address: str) -> str | None:
    """Where Ray finds the token that the cluster at an address accepts; None if the cluster requires none.

    The address is that of the head, or of its dashboard (http://HOST:PORT).

    Raises:
        ClusterError: no cluster answers; or it requires a token and there is none, or a wrong one; or the user's
            settings say to send a token and the cluster requires none, or the other way round; or it has another
            version of Ray or Python than this process.
    """
    web = address.startswith(("http://", "https://"))
    if not web:
        _require_listener(address)
    ask = _ask_dashboard if web else _ask
    mode = os.environ.get(_MODE, "").lower()
    named = [name for name in (_TOKEN, _TOKEN_PATH) if os.environ.get(name)]
    if ask(address, "disabled") == ray_probe.ANSWERED:
        if mode == "token" or (named and mode != "disabled"):
            reason = f"{_MODE}=token asks for one" if mode == "token" else f"{named[0]} names one"
            raise ClusterError(
                f"the Ray cluster at {address} wants no token, and {reason}",
                remedy=f"unset {_MODE if mode == 'token' else named[0]}, or set {_MODE}=disabled, if this is the "
                "cluster that you mean: whoever reaches it can run code on it.",
            )
        return None
    if mode == "disabled":
        raise ClusterError(
            f"the Ray cluster at {address} wants a token, and {_MODE}=disabled says to send none",
            remedy=f"unset {_MODE}.",
        )
    answer = ask(address, "token")
    if answer == ray_probe.NO_TOKEN:
        lacking = f"the file that {_TOKEN_PATH} names cannot be read or is empty" if named else "there is none here"
        raise ClusterError(f"the Ray cluster at {address} wants a token, and {lacking}", remedy=_GET_TOKEN)
    where = named[0] if named else _DEFAULT_FILE
    if answer == ray_probe.REFUSED:
        raise ClusterError(f"the Ray cluster at {address} does not take the token of {where}", remedy=_GET_TOKEN)
    return where


@contextmanager
def settled(address: str | None) -> Iterator[None]:
    """Set this process's environment as Ray needs it for the cluster at an address, or for a local Ray (None).

    A local Ray gets a token of its own. Otherwise it would write one to the user's home if there is none, where
    `ray start` would find it and require it of everybody.

    Raises:
        ClusterError: as `token_for`.
    """
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    # The address is an argument, which Ray would override with these.
    changes: dict[str, str | None] = {"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None}
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        changes[name] = os.environ.get(name, "0")
    if address is None:
        if os.environ.get(_MODE, "").lower() != "disabled":
            changes |= {_MODE: "token", _TOKEN: secrets.token_hex(32)}
    elif not address.startswith("ray://"):  # Ray's client is not installed by default; it reads RAY_AUTH_MODE
        changes[_MODE] = "disabled" if token_for(address) is None else "token"
    if UV_RUN not in os.environ:
        # Under `uv run` Ray would start every worker with `uv run` too, in a copy of the working folder: without a
        # network, or with packages that are not in pyproject.toml, workers silently never start. Here they use the
        # driver's interpreter. Ray reads the variable when it is imported, hence the constant.
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set(changes)
        Config.initialize("")  # reads RAY_AUTH_MODE again, as Ray does after changing it itself
        AuthenticationTokenLoader.instance().reset_cache()
        yield
    finally:
        _set(before)


def workers_by_uv() -> bool:
    """Whether Ray is to start every worker with `uv run`: this process was, and the user's environment asks for it."""
    from ray._private.runtime_env.uv_runtime_env_hook import _get_uv_run_cmdline

    return os.environ.get(UV_RUN, "").lower() in ("1", "true") and bool(_get_uv_run_cmdline())


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _ask(address: str, mode: str) -> int:
    """Exit code of the probe, run with RAY_AUTH_MODE set to `mode`."""
    environment = {**os.environ, _MODE: mode, "RAY_BACKEND_LOG_LEVEL": "fatal"}
    environment.pop("RAY_ADDRESS", None)
    try:
        probe = subprocess.run(
            [sys.executable, "-P", ray_probe.__file__, address],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"no Ray cluster answers at {address}", remedy=_ELSEWHERE) from None
    if probe.returncode == ray_probe.OTHER_VERSIONS:
        raise ClusterError(
            f"the Ray cluster at {address} is {probe.stdout.strip().splitlines()[-1]}, and here is {_versions_here()}",
            remedy="use the cluster's versions here, the patch level of Python included (`uv venv --python VERSION` "
            "makes an environment with one), or start the cluster with those from here.",
        )
    if probe.returncode not in (ray_probe.ANSWERED, ray_probe.REFUSED, ray_probe.NO_TOKEN):
        last = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
        raise ClusterError(f"no Ray cluster answers at {address}: {last}", remedy=_ELSEWHERE)
    return probe.returncode


def _ask_dashboard(address: str, mode: str) -> int:
    """What the probe would find, of a dashboard: it answers over HTTP."""
    import requests

    headers = {}
    if mode == "token":
        token = _own_token()
        if token is None:
            return ray_probe.NO_TOKEN
        headers["Authorization"] = f"Bearer {token}"
    try:
        answer = requests.get(f"{address.rstrip('/')}/api/version", headers=headers, timeout=CONNECT_SECONDS)
    except requests.RequestException as error:
        raise ClusterError(
            f"no Ray dashboard answers at {address}: {type(error).__name__}", remedy=_ELSEWHERE
        ) from None
    if answer.status_code in (401, 403):
        return ray_probe.REFUSED
    if not answer.ok:
        raise ClusterError(f"no Ray dashboard answers at {address}: HTTP {answer.status_code}", remedy=_ELSEWHERE)
    return ray_probe.ANSWERED


def _own_token() -> str | None:
    """The token, from where Ray looks for it."""
    named = os.environ.get(_TOKEN)
    if named:
        return named
    path = Path(os.environ.get(_TOKEN_PATH) or _DEFAULT_FILE).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _versions_here() -> str:
    return f"Ray {importlib.metadata.version('ray')} on Python {platform.python_version()}"


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto` and the like; Ray knows what they mean
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error.strerror or error}", remedy=_ELSEWHERE
        ) from error
