"""Every environment variable of wtsbench with its default, and where files are: shipped, the user's own, caches.

README has the same table for users.
"""

import errno
import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import wtsbench
from wtsbench.errors import SpecError
from wtsbench.visible import shortened

_Default = TypeVar("_Default", int, None)
_PACKAGE = Path(wtsbench.__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]
IMAGE_BY_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
"""An image in a registry, named by its digest."""
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def shipped(name: str) -> Path:
    """A folder shipped with wtsbench (`manifests`, `containers`), in a wheel and in a checkout alike."""
    inside_wheel = _PACKAGE / name
    return inside_wheel if inside_wheel.is_dir() else _CHECKOUT / name


def user_path(name: str | Path) -> Path:
    """A path that a user wrote, on the command line, in a file or in the environment: `~` and `~name` expanded.

    Raises:
        SpecError: it is not a valid path, or there is no such user.
    """
    try:
        path = Path(name).expanduser()
        str(path).encode()  # the database and Arrow accept only UTF-8
        os.lstat(path)
    except RuntimeError:
        raise SpecError(
            f"{shortened(str(name))}: there is no such user", remedy="write the folder's path without the ~."
        ) from None
    except ValueError:
        raise SpecError(
            f"{shortened(str(name))} is not a path: it holds a NUL, or is not UTF-8",
            remedy="rename it, or give another.",
        ) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise SpecError(f"{shortened(str(name))} is not a path: {error.strerror}") from None
    return path


def checkout() -> Path | None:
    """The root of the checkout wtsbench runs from; None if it is installed as a wheel."""
    return _CHECKOUT if _CHECKOUT / "benchmark" / "wtsbench" == _PACKAGE else None


def manifest_folders() -> tuple[Path, ...]:
    """Where manifests are looked up, first match wins: the user's own folder, then the shipped ones."""
    return (user_manifests(), shipped("manifests"))


def user_manifests() -> Path:
    """`WTSBENCH_MANIFESTS`, or `wtsbench/manifests` in the user's configuration folder."""
    value = os.environ.get("WTSBENCH_MANIFESTS")
    if value:
        return user_path(value)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return user_path(base) / "wtsbench" / "manifests"


def cache_folder() -> Path:
    """`WTSBENCH_CACHE`, or `wtsbench` in the user's cache folder: for files that can be made again."""
    value = os.environ.get("WTSBENCH_CACHE")
    if value:
        return user_path(value)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base) / "wtsbench"


def data_mirror() -> Path | None:
    """`WTSBENCH_DATA_MIRROR`: a folder with tasks' data and models, used instead of their sources."""
    value = os.environ.get("WTSBENCH_DATA_MIRROR")
    return user_path(value).resolve() if value else None


def default_store() -> str:
    """`WTSBENCH_STORE`, or `wtsbench-store` in the working folder."""
    return os.environ.get("WTSBENCH_STORE") or "wtsbench-store"


def token_file() -> Path | None:
    """`WTSBENCH_TOKEN_FILE`: the file that holds the token for a central store."""
    value = os.environ.get("WTSBENCH_TOKEN_FILE")
    return user_path(value) if value else None


def named_spool() -> str | None:
    """`WTSBENCH_SPOOL` as an absolute path; None if it is not set."""
    value = os.environ.get("WTSBENCH_SPOOL")
    return str(user_path(value).resolve()) if value else None


def spool_of_servers(named: str | None = None) -> Path:
    """Where attempts on their way to servers are kept on this machine, a folder for each server.

    Args:
        named: as for `spool_folder`.
    """
    return Path(named_spool() or named or (cache_folder() / "spool").resolve())


def spool_folder(store: str, named: str | None = None) -> Path:
    """Where attempts are kept on this machine until they are delivered to a store.

    Args:
        store: its address.
        named: what to take where `WTSBENCH_SPOOL` is not set here, such as the setting of the machine that submitted;
            by default `spool` in the store's folder, or for a server a folder in the user's cache.
    """
    if "://" not in store:
        return Path(named_spool() or named or (user_path(store) / "spool").resolve())
    return spool_of_servers(named) / hashlib.sha256(store.encode()).hexdigest()[:16]


def spool_bytes() -> int:
    """`WTSBENCH_SPOOL_BYTES`, or 50 GiB: what may wait on a node to be delivered."""
    return _bytes("WTSBENCH_SPOOL_BYTES", 50 * 2**30)


def cache_bytes() -> int:
    """`WTSBENCH_CACHE_BYTES`, or 20 GiB: what the parts of the cache that are made again may hold."""
    return _bytes("WTSBENCH_CACHE_BYTES", 20 * 2**30)


def images_bytes() -> int | None:
    """`WTSBENCH_IMAGES_BYTES`: what trial images without a name may hold; None where they all stay."""
    return _bytes("WTSBENCH_IMAGES_BYTES", None)


def lease_seconds() -> float:
    """`WTSBENCH_LEASE_SECONDS`, or 30: age at which a trial's lease has expired."""
    return _seconds("WTSBENCH_LEASE_SECONDS", 30.0)


def lock_seconds() -> float:
    """`WTSBENCH_STORE_LOCK_SECONDS`, or 60: how long to wait for a store's lock."""
    return _seconds("WTSBENCH_STORE_LOCK_SECONDS", 60.0)


def patience_seconds() -> float:
    """`WTSBENCH_STORE_PATIENCE_SECONDS`, or 300: how long to go on trying while a server does not answer."""
    return _seconds("WTSBENCH_STORE_PATIENCE_SECONDS", 300.0)


def pod_image() -> str | None:
    """`WTSBENCH_POD_IMAGE`: the image of the pod that this process runs in, as `repo@sha256:…`; None if it is unset.

    Nothing inside a container tells which image it was made from, so this is what the pod's manifest says.

    Raises:
        SpecError: it names no image by digest, or this process runs in no pod.
    """
    named = os.environ.get("WTSBENCH_POD_IMAGE")
    if not named:
        return None
    if not IMAGE_BY_DIGEST.fullmatch(named):
        raise SpecError(
            f"WTSBENCH_POD_IMAGE is {shortened(named)!r}, which names no image by its digest",
            remedy="set it to what the pod's manifest has as `image`, and write that as REPOSITORY@sha256:….",
        )
    if not (os.environ.get("KUBERNETES_SERVICE_HOST") or _SERVICE_ACCOUNT.is_dir()):
        raise SpecError(
            "WTSBENCH_POD_IMAGE says that this is a pod of Kubernetes, and it is none: KUBERNETES_SERVICE_HOST is not "
            "set, as it is in every pod",
            remedy="unset WTSBENCH_POD_IMAGE; only a pod's manifest sets it.",
        )
    return named


def _bytes(name: str, default: _Default) -> int | _Default:
    named = os.environ.get(name)
    if not named:
        return default
    if not (named.isascii() and named.isdecimal()):
        raise SpecError(f"{name} is {named!r}, not a number of bytes", remedy="set it to one, or unset it.")
    return int(named)


def _seconds(name: str, default: float) -> float:
    named = os.environ.get(name)
    if not named:
        return default
    with suppress(ValueError):
        seconds = float(named)
        if 0 <= seconds <= threading.TIMEOUT_MAX:
            return seconds
    raise SpecError(f"{name} is {named!r}, not a number of seconds", remedy="set it to one, or unset it.")
