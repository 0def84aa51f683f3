"""Where files are: those shipped with wtsbench, the user's own, caches."""

import errno
import hashlib
import os
from pathlib import Path

import wtsbench
from wtsbench.errors import SpecError
from wtsbench.visible import shortened

_PACKAGE = Path(wtsbench.__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]


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


def spool_folder(store: str) -> Path:
    """Where attempts are kept on this machine until they are delivered to a store.

    `WTSBENCH_SPOOL` if it is set; else `spool` in the store's folder, or for a server a folder in the user's cache.
    """
    value = os.environ.get("WTSBENCH_SPOOL")
    if "://" not in store:
        return user_path(value or user_path(store) / "spool").resolve()
    key = hashlib.sha256(store.encode()).hexdigest()[:16]
    return (user_path(value) if value else cache_folder() / "spool").resolve() / key
