"""Datasets of the Hugging Face hub: resolving revisions to commits, and reading columns at a commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from wtsbench.data.libraries import LibraryFault, library_faults, quiet
from wtsbench.data.reading import Columns, pick
from wtsbench.errors import DataError
from wtsbench.spec.source import HubSource

COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 20
"""Seconds to wait for the hub's answer about a dataset."""


def resolve_revision(source: HubSource, where: str) -> str:
    """The commit that a dataset's revision stands for now: a branch's or tag's current one, or itself.

    If the hub cannot be reached, the commit last known to its cache on this machine is used.

    Raises:
        DataError: there is no such dataset or revision, or the hub cannot be reached.
    """
    if COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi

    try:
        with library_faults():
            commit = HfApi().dataset_info(source.id, revision=source.revision, timeout=_TIMEOUT).sha
    except LibraryFault as fault:
        cached = cached_commit(cache_of(source.id, "dataset"), source.revision) if fault.unreachable else None
        if cached is None:
            raise _told(source, where, fault) from fault
        return cached
    if not commit:
        raise DataError(f"{where}: the hub names no commit for revision {source.revision}")
    return commit


def cache_of(repository: str, kind: Literal["dataset", "model"]) -> Path:
    """Folder of a dataset or model in the hub's own cache on this machine."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type=kind))


def cached_commit(folder: Path, revision: str) -> str | None:
    """The commit that a branch or tag stood for when the hub was last asked; None if the cache does not know it."""
    try:
        named = (folder / "refs" / revision).read_text().strip()
    except OSError:
        return None
    return named if COMMIT.fullmatch(named) else None


def read_hub(source: HubSource, commit: str, columns: Sequence[str], where: str) -> Columns:
    """The named columns of all of the source's splits, at this commit; through the caches in HF_HOME.

    Raises:
        DataError: the dataset, the configuration, a split or a column does not exist, or the hub cannot be reached.
    """
    result: Columns = {name: [] for name in columns}
    with quiet(), _offline_if_unreachable(source, commit):
        import datasets

        try:
            with library_faults():
                builder = datasets.load_dataset_builder(
                    source.id, source.config, data_dir=source.data_dir, revision=commit
                )
                if builder.hash != commit:  # the library falls back to any version in its cache
                    raise ValueError(f"no such commit on the hub, and another, {builder.hash}, in the cache")
                builder.download_and_prepare()
                tables = [builder.as_dataset(split=split) for split in source.splits]
        except LibraryFault as fault:
            raise _told(source, where, fault) from fault
        for table in tables:
            for name, values in pick(table, columns, where).items():
                result[name].extend(values)
    return result


def _told(source: HubSource, where: str, fault: LibraryFault) -> DataError:
    """The error for the user."""
    if fault.unreachable:
        return DataError(
            f"{where}: the hub cannot be reached: {fault.reason}",
            remedy="set WTSBENCH_DATA_MIRROR to a folder that holds the data, or HF_HOME to a cache that does.",
        )
    if "RevisionNotFoundError" in fault.names:
        return DataError(f"{where}: no revision {source.revision}", remedy="give a branch, a tag or a full commit.")
    if fault.names & {"RepositoryNotFoundError", "GatedRepoError", "DatasetNotFoundError"}:
        return DataError(
            f"{where}: no such dataset, or not for this account: {fault.reason}",
            remedy="check source.id; for a gated dataset accept its terms and give a token in HF_TOKEN.",
        )
    if "scripts are no longer supported" in fault.reason:
        remedy = "take a revision without a script, such as refs/convert/parquet."
        return DataError(f"{where}: {fault.reason}", remedy=remedy)
    return DataError(f"{where}: {fault.reason}", remedy="check config, splits and revision of the source.")


@contextmanager
def _offline_if_unreachable(source: HubSource, commit: str) -> Iterator[None]:
    """If the hub cannot be reached, use the cache at once: the library itself would retry for half a minute."""
    from huggingface_hub import HfApi, constants

    before = constants.HF_HUB_OFFLINE
    try:
        with library_faults():
            HfApi().dataset_info(source.id, revision=commit, timeout=_TIMEOUT)
    except LibraryFault as fault:  # other errors will be reported by the loading itself
        constants.HF_HUB_OFFLINE = before or fault.unreachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
