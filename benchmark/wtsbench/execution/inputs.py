"""The inputs of a trial. Ground truth that its role must not see is removed here, outside the sandbox."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from wtsbench.contract.folder import ITEMS, MODEL, REFERENCE, SUPERVISION
from wtsbench.errors import StoreError
from wtsbench.execution.spool import AttemptFolder
from wtsbench.models.fetch import fetch
from wtsbench.spec.budget import budget as first
from wtsbench.spec.trial import LABELLED_SPLITS, PREDICTED_SPLITS, TRAIN_SPLIT, ModelRef, Role, Split, TrialSpec
from wtsbench.store.client import Store
from wtsbench.strategies import registry

SUPERVISED_SPLITS = (Split.TRANSFER, Split.VALIDATION)
"""The splits on which students and controls see their parents' predictions. A weak supervisor with parents sees all
of theirs, as it makes the labels itself."""
_COLUMNS = ["item_id", "split", "text", "label", "target"]
_KEPT_BYTES = 2**28
"""Of items that a process keeps."""
_kept: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()
_keeping = threading.Lock()


def items_of(store: Store, data_digest: str) -> pa.Table:
    """The items of a data set, which never change under its digest.

    A process that supervises many trials reads them once: over a network they would be most of what is sent.
    """
    key = (store.uri, data_digest)
    with _keeping:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    items = store.items(data_digest)
    with _keeping:
        if items.num_rows:  # else it may come yet
            _kept[key] = items
        while sum(table.nbytes for table in _kept.values()) > _KEPT_BYTES:
            _kept.popitem(last=False)
    return items


def visible_items(items: pa.Table, spec: TrialSpec) -> pa.Table:
    """The items of the splits a trial works on, with ground truth only where it may see it, in order of split and id.

    Args:
        items: the prepared items, with columns item_id, split, text, label and target.
        spec: the trial.

    Returns:
        item_id, split, text, label, target (both null where hidden; on the test sets always).
    """
    labelled = set() if _asked_only(spec) else {split.value for split in LABELLED_SPLITS[spec.role]}
    splits = sorted({split.value for split in (*PREDICTED_SPLITS, TRAIN_SPLIT[spec.role])})
    table = items.select(_COLUMNS)
    chosen = [table.filter(pc.field("split").isin(splits))]
    budget = _truth_budget(spec)
    if budget:
        known = table.filter(pc.field("split") == Split.WEAK_TRAIN.value)
        chosen.append(known.take(first(known["item_id"].to_pylist(), known["label"].to_pylist(), budget)))
        labelled |= {Split.WEAK_TRAIN.value}
    table = pa.concat_tables(chosen)
    seen = pc.is_in(table["split"], value_set=pa.array(sorted(labelled), pa.string()))
    for name in ("label", "target"):
        place = table.schema.get_field_index(name)
        hidden = pa.scalar(None, table.schema.field(name).type)
        table = table.set_column(place, name, pc.if_else(seen, table[name], hidden))
    return table.sort_by([("split", "ascending"), ("item_id", "ascending")])


def _asked_only(spec: TrialSpec) -> bool:
    """Whether the trial learns nothing, and so sees no ground truth at all."""
    return spec.recipe is not None and spec.recipe.name in ("zero_shot", "prior")


def _truth_budget(spec: TrialSpec) -> int:
    """Number of ground-truth items that a student's strategy declares to use."""
    return 0 if spec.strategy is None else registry.resolve(spec.strategy).truth_budget()


def write_inputs(folder: AttemptFolder, spec: TrialSpec, store: Store) -> None:
    """Write `items.arrow`, and for trials with parents `supervision.arrow`, from the store."""
    items = visible_items(items_of(store, spec.data_digest), spec)
    _write(folder, ITEMS, items)
    if not spec.parents:
        return
    made = (
        generations_of(spec, store)
        if spec.form == "generation"
        else predictions_of(spec, store.predictions(spec.parents), items)
    )
    missing = set(spec.parents) - set(made["parent"].unique().to_pylist())
    if missing:
        raise StoreError(
            f"the store has no predictions of parent trial {min(missing)[:12]}",
            remedy="run `wtsbench plan` on the grid; the parent has to run first.",
        )
    _write(folder, SUPERVISION, made)


def predictions_of(spec: TrialSpec, made: pa.Table, items: pa.Table) -> pa.Table:
    """The parents' predictions as a trial may see them.

    Args:
        spec: the trial.
        made: all that its parents predicted.
        items: what `visible_items` gives. Of `weak_train`, a student sees what its parents say of the items of its
            budget of ground truth, and of no other.

    Returns:
        parent, item_id, split, probabilities.
    """
    table = _visible(made, spec.role)
    if spec.role is Role.STUDENT:
        known = items.filter(pc.field("split") == Split.WEAK_TRAIN.value)["item_id"].combine_chunks()
        said = made.filter(pc.field("split") == Split.WEAK_TRAIN.value)
        table = pa.concat_tables([table, said.filter(pc.is_in(said["item_id"], value_set=known))])
    return table.select(["trial_id", "item_id", "split", "probabilities"]).rename_columns({"trial_id": "parent"})


def generations_of(spec: TrialSpec, store: Store) -> pa.Table:
    """The parents' generations, each with the task's score, as a trial may see them.

    Returns:
        parent, item_id, split, sample, text, tokens, logprobs, base_logprobs, score.
    """
    keys = ["trial_id", "split", "item_id", "sample"]
    made = _visible(store.generations(spec.parents), spec.role)
    scores = store.scores(spec.parents)
    scores = scores.filter(pc.field("scorer") == spec.scorer).select([*keys, "value"])
    made = made.append_column("place", pa.array(range(made.num_rows), pa.int64()))  # joins keep no lists and no order
    joined = made.select([*keys, "place"]).join(scores, keys, join_type="left outer").sort_by("place")
    made = made.append_column("score", joined["value"])
    columns = ["trial_id", "item_id", "split", "sample", "text", "tokens", "logprobs", "base_logprobs", "score"]
    return made.select(columns).rename_columns({"trial_id": "parent"})


def _visible(table: pa.Table, role: Role) -> pa.Table:
    if role is Role.WEAK:
        return table
    known = {split.value for split in SUPERVISED_SPLITS}
    seen = [split for split in table["split"].unique().to_pylist() if split.partition("~")[0] in known]
    return table.filter(pc.is_in(table["split"], value_set=pa.array(sorted(seen), pa.string())))


def _write(folder: AttemptFolder, name: str, table: pa.Table) -> None:
    with pa.ipc.new_file(str(folder.trial.inputs / name), table.schema) as writer:
        writer.write_table(table)


def link_models(folder: AttemptFolder, spec: TrialSpec) -> None:
    """Point `model` of the trial folder, and for generation `reference`, at the weights on this node.

    Weights that are not on this node are fetched.
    """
    _link(folder, MODEL, spec.model)
    if spec.reference is not None:
        _link(folder, REFERENCE, spec.reference)


def _link(folder: AttemptFolder, name: str, model: ModelRef) -> None:
    (folder.trial.path / name).symlink_to(fetch(model).resolve(), target_is_directory=True)
