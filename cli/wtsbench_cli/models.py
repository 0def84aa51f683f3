"""`wtsbench models`: lists and shows models."""

from __future__ import annotations

from typing import Any

from wtsbench_cli.describe import manifest_record, show_fields
from wtsbench_cli.options import JsonOption, NameArgument
from wtsbench_cli.terminal import print_json, print_table


def models(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the models that have a manifest, or show one.

    A grid can name any other model of the hub as hub:owner/name@revision, a folder as ./path, or a manifest of your own
    as ./path.yaml: of a model, a file of labels, or a prompted model behind an endpoint.
    """
    from wtsbench.spec import manifests

    if name is not None:
        record = {**manifest_record("models", name), "memory": _memory(name)}
        print_json(record) if json else show_fields(_readable(record))
        return
    records = [manifest_record("models", model) for model in manifests.names("models")]
    if json:
        print_json(records)
        return
    rows = [(r["name"], r["family"] or "", _size(r["parameters"]), _source(r["source"]), r["summary"]) for r in records]
    print_table(("model", "family", "weights", "source", "summary"), rows, right=("weights",))


def _size(parameters: int | None) -> str:
    if parameters is None:
        return ""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)


def _source(source: dict[str, Any] | None) -> str:
    if source is None:
        return "mirror only"
    if source["embedded"] is not None:
        return "made on first use"
    if source["labels"] is not None:
        return f"labels in {source['labels']['path']}"
    if source["endpoint"] is not None:
        return f"endpoint {source['endpoint']['url']}"
    return f"hub {source['hub']}" if source["hub"] is not None else f"folder {source['path']}"


def _memory(name: str) -> dict[str, int] | None:
    """Estimated bytes of training, by what is trained; None if the manifest does not tell the model's shape."""
    from typing import get_args

    from wtsbench.models.memory import Shape, estimate
    from wtsbench.spec import manifests
    from wtsbench.spec.training import Finetune, Training

    model, _ = manifests.load_model(name)
    if model.parameters is None or model.layers is None or model.width is None:
        return None
    shape = Shape(parameters=model.parameters, layers=model.layers, width=model.width)
    training = model.training.over(Training())
    return {finetune: estimate(shape, training, finetune, half=True) for finetune in get_args(Finetune)}


def _readable(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the memory estimates as text."""
    from wtsbench.models.memory import in_words

    memory = record["memory"]
    if memory is None:
        return record
    training = record["training"]
    items, tokens = training["batch_size"] or _default("batch_size"), training["max_length"] or _default("max_length")
    estimates = {finetune: f"about {in_words(size)}" for finetune, size in memory.items()}
    return {
        **record,
        "memory": {**estimates, "estimated for": f"mixed precision, {items} items of {tokens} tokens a step"},
    }


def _default(field: str) -> Any:
    from wtsbench.spec.training import Training

    return Training.model_fields[field].default
