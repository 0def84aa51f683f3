"""A model folder in Hugging Face layout: which of its files count, whether they suffice, and their digest."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from wtsbench.errors import ModelError
from wtsbench.spec.files import open_plain, read_plain
from wtsbench.spec.identity import digest
from wtsbench.spec.paths import cache_folder

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


def needed(names: Iterable[str]) -> tuple[str, ...]:
    """The files of a folder that a trial reads: configuration, tokenizer, and one form of the weights.

    Weights are taken as safetensors, and as torch's own format only where there are no safetensors; those of other
    frameworks, exports and training states are left out.
    """
    names = sorted(names)
    weights = _matching(names, SAFETENSORS) or _matching(names, PICKLED)
    return tuple(sorted({*_matching(names, CONFIGS), *_matching(names, TOKENIZERS), *weights}))


def lacking(names: Iterable[str]) -> tuple[str, ...]:
    """What a folder with these files lacks, in words; empty where a trial can use it."""
    names = list(names)
    found = []
    if not _matching(names, CONFIGS):
        found.append("config.json")
    weights = [name for name in _matching(names, (*SAFETENSORS, *PICKLED)) if not name.endswith(".index.json")]
    if not weights:
        found.append("weights (model.safetensors or pytorch_model.bin)")
    if not _matching(names, _TOKENIZER_ALONE):
        found.append("a tokenizer (tokenizer.json, vocab files or a sentencepiece model)")
    return tuple(found)


def missing_shards(folder: Path) -> tuple[str, ...]:
    """Files of weights that the index of a model folder names and the folder lacks; empty where there is no index.

    Raises:
        ModelError: the index cannot be read.
    """
    for name in (f"{SAFETENSORS[0]}.index.json", f"{PICKLED[0]}.index.json"):
        try:
            named = set(json.loads(read_plain(folder / name))["weight_map"].values())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise ModelError(f"{folder / name} is no index of weights", remedy="fetch it again.") from None
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
        raise ModelError(f"{what}: {folder} lacks {', '.join(shards)}", remedy="its index of weights names them.")
    return needed(names)


def folder_revision(folder: Path, *, what: str) -> str:
    """SHA-256 over the names and contents of a model folder's needed files.

    Digests of single files are kept in the cache folder and taken from there while path, size and time of change are
    the same.

    Raises:
        ModelError: see `check_folder`; or a file cannot be read.
    """
    files = check_folder(folder, what=what)
    notes = (
        cache_folder() / "models" / "digests" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.json"
    )
    known = _read_notes(notes)
    fresh: dict[str, list[int | str]] = {}
    try:
        for name in files:
            status = (folder / name).stat()
            noted = known.get(name)
            if isinstance(noted, list) and noted[:2] == [status.st_size, status.st_mtime_ns]:
                fresh[name] = noted
            else:
                fresh[name] = [status.st_size, status.st_mtime_ns, sha256(folder / name)]
    except OSError as error:
        raise ModelError(f"{what}: {error.filename} cannot be read: {error.strerror}") from None
    if fresh != known:
        _write_notes(notes, fresh)
    return digest({name: entry[2] for name, entry in fresh.items()})


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return [
        name for name in names if "/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_notes(path: Path) -> dict[str, list[int | str]]:
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _write_notes(path: Path, notes: dict[str, list[int | str]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(notes))
        temporary.replace(path)
    except OSError:
        return  # a cache only: the digest is computed again next time
