"""The digest of the code that computes results, to see whether an image holds the code installed here."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import wtsbench

COMPUTING_PARTS = (
    "__init__.py", "errors.py", "files.py", "json_text.py", "settings.py", "visible.py", "models/__init__.py",
    "models/layout.py", "spec", "contract", "strategies", "trial", "worker",
)  # fmt: skip
"""The parts of the package that a trial imports; its image holds nothing else of it."""


def code_digest() -> str:
    """SHA-256 over the names and contents of the Python files in `COMPUTING_PARTS`."""
    return digest_of({name: file.read_bytes() for name, file in _files()})


def digest_of(files: Mapping[str, bytes]) -> str:
    """The same digest for files from elsewhere, by their names below the package."""
    total = hashlib.sha256()
    for name in sorted(files, key=PurePosixPath):
        total.update(f"{name}\0".encode())
        total.update(hashlib.sha256(files[name]).digest())
    return total.hexdigest()


def checkout_digest(root: Path) -> str:
    """The same digest over all files that go into a wheel of the checkout."""
    parts = [root / name for name in ("benchmark", "cli", "containers", "manifests", "pyproject.toml")]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*")) if file.is_file()]
    return digest_of({file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.suffix != ".pyc"})


def copy_code(folder: Path) -> None:
    """Copy the code that the digest covers into a folder, as a package."""
    for name, file in _files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
        (folder / name).chmod(0o644)


def _files() -> Iterator[tuple[str, Path]]:
    """Names below the package, and their paths on this machine."""
    package = Path(wtsbench.__file__).resolve().parent
    for part in COMPUTING_PARTS:
        path = package / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield file.relative_to(package).as_posix(), file
