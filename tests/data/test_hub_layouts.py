"""The shipped manifests of hub datasets, on rows laid out as the hub has them: folders, splits, types, column names."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import sentences
from tests.data.hub_server import hub

PROGRAM = """
import json, sys
from wtsbench.data import prepare
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.manifests import load_task
told = {}
for name in sys.argv[1:]:
    manifest = load_task(name)[0].model_copy(update={"ood": None})
    dataset = prepare(manifest, DataSettings())
    rows = dataset.items.select(["text", "label", "target"]).to_pylist()
    told[name] = {"items": rows, "report": dataset.report}
print(json.dumps(told))
"""
TEXTS = list(sentences(240, seed=40))
Rows = list[dict[str, Any]]


def parquet(rows: Rows, **types: pa.DataType) -> bytes:
    """The rows as a Parquet file."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    for name, kind in types.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    pq.write_table(table, sink)
    return sink.getvalue()


def lines(rows: Rows) -> bytes:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(*configs: tuple[str, str]) -> bytes:
    """A dataset's card that names configurations and where their files are."""
    told = [
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - {{split: {split}, path: {folder}/{split}-*}}\n" for split in ("train", "validation", "test"))
        for name, folder in configs
    ]
    return f"---\nconfigs:\n{''.join(told)}---\n".encode()


def thirds(make: Callable[[int], dict[str, Any]]) -> tuple[Rows, Rows, Rows]:
    """Rows 0 to 239 in three parts."""
    rows = [make(place) for place in range(240)]
    return rows[:140], rows[140:180], rows[180:]


def sharded(folder: str, parts: tuple[Rows, Rows, Rows]) -> dict[str, bytes]:
    """Train, validation and test as the hub's shards."""
    return {
        f"{folder}/{split}-00000-of-00001.parquet": parquet(rows)
        for split, rows in zip(("train", "validation", "test"), parts, strict=True)
    }


def layouts() -> dict[str, dict[str, bytes]]:
    """Hub id to files."""
    science = thirds(
        lambda n: {
            "question": TEXTS[n],
            "distractor3": f"c {n}",
            "distractor1": f"a {n}",
            "distractor2": f"b {n}",
            "correct_answer": f"right {n}",
            "support": "",
        }
    )
    film = thirds(lambda n: {"sentence": TEXTS[n], "label": n % 2, "idx": n})
    shop = thirds(lambda n: {"label": n % 2, "title": f"Title {n}", "content": TEXTS[n]})
    asked = thirds(lambda n: {"question": f"is {TEXTS[n]}", "answer": n % 2 == 0, "passage": TEXTS[-n]})
    story = thirds(
        lambda n: {
            "id": str(n),
            "context": TEXTS[n],
            "question": f"Why {n}",
            **{f"answer{k}": f"reason {n} {k}" for k in range(4)},
            "label": n % 4,
        }
    )
    just = thirds(lambda n: {"label": n % 2, "scenario": TEXTS[n]})
    talk = thirds(
        lambda n: {
            "chosen": f"\n\nHuman: {TEXTS[n]}\n\nAssistant: fine {n}",
            "rejected": f"\n\nHuman: {TEXTS[n]}\n\nAssistant: bad {n}",
        }
    )
    web = thirds(
        lambda n: {
            "filename": f"{n}.txt",
            "prompt": {"text": TEXTS[n], "toxicity": 0.1},
            "continuation": {"text": f" more {n}", "toxicity": None if n % 10 == 0 else 0.2},
        }
    )
    return {
        "allenai/sciq": {"README.md": card(("default", "data")), **sharded("data", science)},
        "nyu-mll/glue": {
            "README.md": card(("cola", "cola"), ("sst2", "sst2")),
            **sharded("cola", film),
            **sharded("sst2", film),
        },
        "fancyzhx/amazon_polarity": {
            "README.md": card(("amazon_polarity", "amazon_polarity")),
            **sharded("amazon_polarity", (shop[0], shop[1], [row for part in shop for row in part])),
        },
        "google/boolq": {"README.md": card(("default", "data")), **sharded("data", asked)},
        "allenai/cosmos_qa": {
            f"default/{split}/0000.parquet": parquet(rows)
            for split, rows in zip(("train", "validation", "test"), story, strict=True)
        },
        "EleutherAI/hendrycks_ethics": {
            f"{folder}/{split}/0000.parquet": parquet(rows)
            for folder, rows_of in (("justice", just), ("virtue", (film[0], [], film[2])))
            for split, rows in (("train", rows_of[0]), ("test", rows_of[2]))
        },
        "Anthropic/hh-rlhf": {
            f"{folder}/{split}.jsonl.gz": gzip.compress(lines(rows), mtime=0)
            for folder in ("harmless-base", "helpful-base")
            for split, rows in (("train", talk[0]), ("test", talk[2]))
        },
        "allenai/real-toxicity-prompts": {"prompts.jsonl": lines([row for part in web for row in part])},
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Items and report of each task, prepared by the real clients in a process of its own."""
    folder = tmp_path_factory.mktemp("hub")
    with hub({}, layouts()) as (endpoint, _):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_ENDPOINT": endpoint}
        environment |= {"HF_HOME": str(folder / "hf"), "WTSBENCH_CACHE": str(folder / "cache")}
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE", "WTSBENCH_DATA_MIRROR"):
            environment.pop(name, None)
        command = [sys.executable, "-c", PROGRAM, *TASKS]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    told: dict[str, dict[str, Any]] = json.loads(run.stdout)
    return told


TASKS = {
    "sciq": 480,
    "sst2": 140,
    "cola": 180,
    "amazon-polarity": 240,
    "boolq": 180,
    "cosmosqa": 360,
    "ethics-justice": 200,
    "hh-harmless": 200,
    "toxicity": 240,
}
"""Distinct items of each."""


@pytest.mark.parametrize("task", TASKS)
def test_a_shipped_manifest_reads_the_hubs_layout(found: dict[str, dict[str, Any]], task: str) -> None:
    """The manifest's configuration, folder, splits and columns are those of the hub's dataset."""
    report = found[task]["report"]
    assert report["distinct_items"] == TASKS[task]
    assert report["source"]["kind"] == "hub"
    items = found[task]["items"]
    if task == "toxicity":
        assert {item["target"] for item in items} <= {None, *(f" more {n}" for n in range(240))}
        assert all(item["label"] is None for item in items)
        return
    assert {item["label"] for item in items} == {0, 1}
    for item in items:
        said = item["text"].split("\n")
        if task == "sciq":
            assert (item["label"] == 1) == said[1].startswith("right ")
        elif task == "cosmosqa":
            number, place = said[1].removeprefix("reason ").split()
            assert (item["label"] == 1) == (int(number) % 4 == int(place))
        elif task == "hh-harmless":
            shown = [part for part in said if part.startswith(("First: ", "Second: "))]
            assert shown[item["label"]].split(": ")[1].startswith("fine ")
        elif task == "boolq":
            assert (item["label"] == 1) == (TEXTS.index(said[0].removeprefix("is ").removesuffix("?")) % 2 == 0)
        else:
            assert item["label"] == TEXTS.index(said[-1]) % 2
