"""A model folder in Hugging Face layout: which of its files count, whether they suffice, and their digest."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from wtsbench.errors import ModelError
from wtsbench.files import read_plain, replace, sha256
from wtsbench.json_text import parsed
from wtsbench.settings import cache_folder
from wtsbench.spec.identity import digest

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin")
CONFIGS = ("config.json",)
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
)
_TOKENIZER_ALONE = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.spm", "*.tiktoken")
"""One of these is enough for a tokenizer to be there."""
_SETTLED_NS = 2 * 10**9
"""A file changed more recently may change again within one tick of the file system's clock, so it is not cached."""


def needed(names: Iterable[str]) -> tuple[str, ...]:
    """The files of a folder that a trial reads: configuration, tokenizer, and one form of the weights.

    Weights are taken as safetensors, and as torch's own format only where there are no safetensors; those of other
    frameworks, exports and training states are left out.
    """
    names = sorted(names)
    weights = matching(names, SAFETENSORS) or matching(names, PICKLED)
    return tuple(sorted({*matching(names, CONFIGS), *matching(names, TOKENIZERS), *weights}))


def lacking(names: Iterable[str]) -> tuple[str, ...]:
    """What a folder with these files lacks, as text; empty if a trial can use it."""
    names = list(names)
    missing = []
    if not matching(names, CONFIGS):
        missing.append("config.json")
    weights = [name for name in matching(names, (*SAFETENSORS, *PICKLED)) if not name.endswith(".index.json")]
    if not weights:
        missing.append("weights (model.safetensors or pytorch_model.bin)")
    if not matching(names, _TOKENIZER_ALONE):
        missing.append("a tokenizer (tokenizer.json, vocab files or a sentencepiece model)")
    return tuple(missing)


def missing_shards(folder: Path) -> tuple[str, ...]:
    """Files of weights that the index of a model folder names and the folder lacks; empty if there is no index.

    Raises:
        ModelError: the index cannot be read.
    """
    for name in (f"{SAFETENSORS[0]}.index.json", f"{PICKLED[0]}.index.json"):
        try:
            named = {str(shard) for shard in parsed(read_plain(folder / name))["weight_map"].values()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise ModelError(f"{folder / name} is not an index of weights", remedy="fetch it again.") from None
        return tuple(sorted(shard for shard in named if not (folder / shard).is_file()))
    return ()


def check_folder(folder: Path, *, what: str) -> tuple[str, ...]:
    """The names of the needed files of a model folder.

    Raises:
        ModelError: it is no folder, cannot be read, or lacks something.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except FileNotFoundError:
        raise ModelError(f"{what}: there is no folder {folder}", remedy="check the path.") from None
    except NotADirectoryError:
        raise ModelError(
            f"{what}: {folder} is a file", remedy="name the folder that holds config.json and the weights."
        ) from None
    except OSError as error:
        raise ModelError(f"{what}: {folder} cannot be read: {error.strerror}") from None
    absent = lacking(names)
    if absent:
        raise ModelError(
            f"{what}: {folder} lacks {', '.join(absent)}",
            remedy="a model folder is what `save_pretrained` of model and tokenizer writes.",
        )
    shards = missing_shards(folder)
    if shards:
        raise ModelError(
            f"{what}: {folder} lacks {', '.join(shards)}", remedy="fetch the files that its index of weights names."
        )
    return needed(names)


def folder_revision(folder: Path, *, what: str) -> str:
    """SHA-256 over the names and contents of a model folder's needed files.

    Raises:
        ModelError: see `check_folder`; or a file cannot be read.
    """
    return revision_of(file_digests(folder, check_folder(folder, what=what), what=what))


def file_digests(folder: Path, files: Iterable[str], *, what: str) -> dict[str, str]:
    """SHA-256 of files of a folder, by name.

    They are cached, and taken from the cache while a file's stamp is the same: size, times of modification and change,
    inode and device. No program can set the time of change (`ctime`), so other weights under the old size and time are
    noticed. That leaves clocks that were set back, file systems without such a time, and failing disks: therefore every
    trial reads its files in full (`content_digests`) before it trains.

    Raises:
        ModelError: a file cannot be read.
    """
    cache_file = (
        cache_folder() / "models" / "digests" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.json"
    )
    cached = _read_cache(cache_file)
    fresh: dict[str, list[int | str]] = {}
    digests: dict[str, str] = {}
    try:
        for name in files:
            stamp, entry = _stamp(folder / name), cached.get(name)
            settled = time.time_ns() - stamp.changed > _SETTLED_NS
            if settled and isinstance(entry, list) and entry[:-1] == [*stamp]:
                digests[name] = str(entry[-1])
            else:
                digests[name] = sha256(folder / name)
            if settled:
                fresh[name] = [*stamp, digests[name]]
    except OSError as error:
        raise ModelError(f"{what}: {error.filename} cannot be read: {error.strerror}") from None
    if fresh != cached:
        _write_cache(cache_file, fresh)
    return digests


def content_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each needed file of a model folder, by name; every byte is read."""
    return {name: sha256(folder / name) for name in _needed_of(folder)}


def revision_of(digests: Mapping[str, str]) -> str:
    """The revision of a model folder, of the SHA-256 of its needed files by name."""
    return digest({**digests})


class Stamp(NamedTuple):
    """What the file system says of a file; if all of it is unchanged, the content is taken to be."""

    size: int
    modified: int
    """Nanoseconds since the epoch; programs can set it."""
    changed: int
    """Nanoseconds since the epoch; programs cannot set it."""
    inode: int
    device: int


def stamps(folder: Path) -> dict[str, Stamp]:
    """The stamps of the needed files of a model folder, by name."""
    return {name: _stamp(folder / name) for name in _needed_of(folder)}


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _needed_of(folder: Path) -> tuple[str, ...]:
    return needed(entry.name for entry in os.scandir(folder) if entry.is_file())


def matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    """The names that match one of the patterns, in their order."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _read_cache(path: Path) -> dict[str, list[int | str]]:
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _write_cache(path: Path, entries: dict[str, list[int | str]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(entries), durable=False)
    except OSError:
        return  # only a cache: the digest is computed again next time
