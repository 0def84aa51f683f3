"""The Hugging Face hub: resolves branches to commits, downloads commits, and explains its errors."""

from __future__ import annotations

from pathlib import Path

from wtsbench.data.hub import COMMIT, cache_of, cached_commit
from wtsbench.errors import ModelError
from wtsbench.models.layout import CONFIGS, PICKLED, SAFETENSORS, TOKENIZERS, lacking, missing_shards
from wtsbench.visible import first_line

_SECONDS = 20.0
"""How long the hub may take to answer a question."""


def commit_of(repository: str, revision: str) -> str:
    """The commit that a branch, a tag or a commit of a hub model stands for.

    A full commit is returned as it is. If the hub cannot be reached, the local cache may know what the name meant last.

    Raises:
        ModelError: there is no such model or revision, or neither hub nor cache can tell.
    """
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub.errors import HFValidationError

    try:
        return _ask(repository, revision)
    except HFValidationError as error:
        raise ModelError(
            f"{repository!r} is not a name on the hub: {first_line(error)}", remedy="a name is owner/name."
        ) from None
    except _transport_faults() as error:
        folder = cache_of(repository, "model")
        cached = cached_commit(folder, revision)
        if cached is None or not (folder / "snapshots" / cached).is_dir() or _is_refusal(error):
            raise _explained(error, repository, revision) from None
        return cached


def is_cached(repository: str, commit: str) -> bool:
    """Whether the hub's cache on this machine has the files of a commit that a trial needs."""
    folder = cache_of(repository, "model") / "snapshots" / commit
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return not lacking(names) and not missing_shards(folder)


def require_reachable(repository: str, commit: str) -> None:
    """Ask the hub for a commit; nothing is downloaded.

    Raises:
        ModelError: it does not answer, or does not give it to this user.
    """
    try:
        _ask(repository, commit)
    except _transport_faults() as error:
        raise _explained(error, repository, commit) from None


def snapshot(repository: str, commit: str) -> Path:
    """The local folder with the files of a commit that a trial needs; downloaded if they are not in the cache.

    Raises:
        ModelError: they cannot be downloaded, or are not a model that a trial can use.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # they would disturb the view of a submission, which shows what it waits for
    try:
        if not (cache_of(repository, "model") / "snapshots" / commit).is_dir():
            _ask(repository, commit)  # finds out quickly that the hub is silent; a download would retry for long
        folder = _download(repository, commit, (*CONFIGS, *TOKENIZERS, *SAFETENSORS))
        if not any(folder.glob("*.safetensors")):
            folder = _download(repository, commit, (*CONFIGS, *TOKENIZERS, *PICKLED))
    except _transport_faults() as error:
        raise _explained(error, repository, commit) from None
    absent = (*lacking(path.name for path in folder.iterdir()), *missing_shards(folder))
    if absent:
        raise ModelError(
            f"{repository} at {commit[:12]} lacks {', '.join(absent)}", remedy="take another model or revision."
        )
    return folder


def _download(repository: str, commit: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, revision=commit, allow_patterns=list(patterns), ignore_patterns=["*/*"]))


def _ask(repository: str, revision: str) -> str:
    from huggingface_hub import HfApi

    commit = HfApi().model_info(repository, revision=revision, timeout=_SECONDS).sha
    assert commit is not None, "the hub names the commit of every revision"
    return commit


def _transport_faults() -> tuple[type[BaseException], ...]:
    """What the hub's client raises when the hub is silent or refuses: its own errors and those of its HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError, *HfHubHTTPError.__bases__)


def _is_refusal(error: BaseException) -> bool:
    """Whether the hub has answered that there is no such model or revision."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)


def _explained(error: BaseException, repository: str, revision: str) -> ModelError:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"{repository} at {revision[:12]}"
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{repository} is gated", remedy="accept its conditions on the hub, then sign in with `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {repository}, or it is private",
            remedy="check the name; sign in with `hf auth login`.",
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"the hub's model {repository} has no revision {revision!r}", remedy="check the revision.")
    if constants.HF_HUB_OFFLINE:
        return ModelError(
            f"{where} is not in the local cache, and the hub is switched off",
            remedy="unset HF_HUB_OFFLINE, or name a local folder with the model.",
        )
    return ModelError(
        f"{where} is not in the local cache, and the hub cannot be reached: {first_line(error)}",
        remedy="connect to the network once, name a local folder with the model, or set WTSBENCH_DATA_MIRROR.",
    )
