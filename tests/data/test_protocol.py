"""The protocol that turns rows into splits, checked by code of its own."""

import json
import random
import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from tests.data.conftest import MakeManifest, balanced_rows, sentences, write_csv
from wtsbench.data import Dataset, prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings, GridData
from wtsbench.spec.items import Balance
from wtsbench.spec.task import TaskManifest
from wtsbench.store.upkeep.verify import digest_of

SPLITS = ["weak_train", "transfer", "validation", "test"]


def words(text: str) -> list[str]:
    """ASCII words in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def likeness(first: str, second: str) -> float:
    """Jaccard similarity of word pairs, start and end included, written without the room's code."""
    one, two = (set(pairwise(["^", *words(text), "$"])) for text in (first, second))
    return len(one & two) / len(one | two)


def rows_of(dataset: Dataset) -> list[dict[str, object]]:
    """The items as dicts, the digest left out."""
    rows: list[dict[str, object]] = dataset.items.drop_columns(["data_digest"]).to_pylist()
    return rows


def test_counts_of_a_constructed_file(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Duplicates become one item, contradictory texts go with all their rows, empty rows go; the report counts all."""
    rows = balanced_rows(200)
    plain, shouted = rows[0]["text"], f"  {rows[0]['text'].upper()}  "
    contradicted = rows[1]["text"]
    rows += [
        {"text": plain, "label": "no"},
        {"text": shouted.replace(".", " !!"), "label": "no"},
        {"text": contradicted, "label": "no"},
        {"text": contradicted.replace(" ", "  "), "label": "yes"},
        {"text": "   ", "label": "no"},
    ]
    write_csv(tmp_path / "data.csv", rows)
    dataset = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    report = dataset.report
    assert report["rows"] == 205
    assert report["empty_rows_dropped"] == 1
    assert report["duplicate_rows_dropped"] == 2
    assert report["contradictory_texts"] == 1
    assert report["contradictory_rows_dropped"] == 3
    assert report["distinct_items"] == 199
    kept = [" ".join(words(str(row["text"]))) for row in rows_of(dataset)]
    assert len(kept) == len(set(kept))
    assert " ".join(words(contradicted)) not in kept


def test_near_identical_items_share_a_split(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """No two items of different splits are nearly the same: every pair compared, by code of its own."""
    chance = random.Random(3)
    rows = []
    for place, text in enumerate(sentences(80, seed=5)):
        label = ("no", "yes")[place % 2]
        rows.append({"text": text, "label": label})
        for _ in range(3):
            changed = text.split()
            changed[chance.randrange(len(changed))] = chance.choice(["quickly", "seldom", "twice"])
            rows.append({"text": " ".join(changed), "label": label})
    chance.shuffle(rows)
    write_csv(tmp_path / "data.csv", rows)
    dataset = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    items = rows_of(dataset)
    near = 0
    for first, second in combinations(items, 2):
        if likeness(str(first["text"]), str(second["text"])) >= 0.6:
            near += 1
            assert first["split"] == second["split"]
            assert first["group_id"] == second["group_id"]
    assert near > 100
    assert {str(item["split"]) for item in items} == set(SPLITS)


def test_group_column_is_never_parted(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Items of one question lie in one split, also where the question is written otherwise; items occur once."""
    rows = []
    for place, (question, clause) in enumerate(zip(sentences(40, 1, 6), sentences(40, 2), strict=True)):
        for extra in range(8):
            asked = question if extra % 2 else question.lower().replace(".", " ?")
            rows.append({"q": asked, "text": f"{clause} {place} {extra}", "label": ("no", "yes")[extra % 2]})
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(template="{q}\n{text}", group={"columns": ["q"]})
    items = rows_of(prepare(manifest, DataSettings(), folder=tmp_path))
    home: dict[str, set[str]] = {}
    for item in items:
        home.setdefault(" ".join(words(str(item["text"]).split("\n")[0])), set()).add(str(item["split"]))
    assert len(items) == 320
    assert len(home) == 40
    assert all(len(splits) == 1 for splits in home.values())
    assert len({item["item_id"] for item in items}) == len(items)


def test_order_of_rows_does_not_matter(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The same rows in another order, duplicates included, give the same items and the same digest."""
    rows = balanced_rows(150)
    rows += [{**row, "text": row["text"].upper()} for row in rows[:30]]
    digests, tables = set(), []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        random.Random(seed).shuffle(rows)
        write_csv(folder / "data.csv", rows)
        dataset = prepare(make_manifest(), DataSettings(), folder=folder)
        digests.add(dataset.data_digest)
        tables.append(dataset.items)
    assert len(digests) == 1
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_data_seed_changes_the_split_and_nothing_else(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Another data seed parts the same items, under the same ids, in another way."""
    write_csv(tmp_path / "data.csv", balanced_rows(200))
    manifest = make_manifest()
    first, second = (rows_of(prepare(manifest, DataSettings(seed=seed), folder=tmp_path)) for seed in (0, 1))
    texts = [{str(row["item_id"]): row["text"] for row in rows} for rows in (first, second)]
    shared = texts[0].keys() & texts[1].keys()
    assert len(shared) > 150
    assert all(texts[0][name] == texts[1][name] for name in shared)
    homes = [{str(row["item_id"]): row["split"] for row in rows} for rows in (first, second)]
    assert any(homes[0][name] != homes[1][name] for name in shared)


def test_a_draw_changes_what_is_learned_from_alone(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Other items are `weak_train` and `transfer`, in their shares and caps; validation and test stay as they are."""
    write_csv(tmp_path / "data.csv", balanced_rows(400))
    splits = {"weak_train": 0.25, "transfer": 0.45, "validation": 0.1, "test": 0.2}
    asked = GridData(seed=3, seeds=(3, 4, 5), weak_train=60)
    plain, *drawn = (
        prepare(make_manifest(splits=splits), asked.of("t", data_seed), folder=tmp_path) for data_seed in asked.draws
    )
    same = prepare(make_manifest(splits=splits), DataSettings(seed=3, weak_train=60), folder=tmp_path)
    assert plain.data_digest == same.data_digest
    assert len({each.data_digest for each in (plain, *drawn)}) == 3

    def of(dataset: Dataset, *names: str) -> set[tuple[object, ...]]:
        kept = [row for row in rows_of(dataset) if row["split"] in names]
        return {tuple(row[key] for key in ("item_id", "group_id", "split", "text", "label")) for row in kept}

    for each in drawn:
        assert of(each, "validation", "test") == of(plain, "validation", "test")
        for name in ("weak_train", "transfer"):
            assert of(each, name) != of(plain, name)
            whole = plain.report["splits"][name]["items_before_balancing"]
            assert abs(each.report["splits"][name]["items_before_balancing"] - whole) <= 2
        assert len(of(each, "weak_train")) == 60


def test_shares_are_met(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Without large groups every split holds its share of the items to within one item."""
    write_csv(tmp_path / "data.csv", balanced_rows(400))
    splits = {"weak_train": 0.25, "transfer": 0.45, "validation": 0.1, "test": 0.2}
    report = prepare(make_manifest(splits=splits), DataSettings(), folder=tmp_path).report
    assert report["largest_group"] == 1
    for name, share in splits.items():
        assert abs(report["splits"][name]["items_before_balancing"] - 400 * share) <= 1


SHARES = (239, 252, 24, 245, 143, 172)
"""Items of six classes, one of them rare."""
OF_SIX = [f"c{number}" for number in range(6)]


def six_classes(folder: Path, make_manifest: MakeManifest, times: int = 5) -> TaskManifest:
    """A task of six classes as common as in SHARES, in all its splits together `times` as many."""
    labels = [name for name, share in zip(OF_SIX, SHARES, strict=True) for _ in range(times * share)]
    random.Random(1).shuffle(labels)
    texts = sentences(len(labels), 9)
    write_csv(folder / "data.csv", [{"text": text, "label": name} for text, name in zip(texts, labels, strict=True)])
    return make_manifest(labels=OF_SIX, group={"threshold": 1.0})


@pytest.mark.parametrize("balance", ["all", "train", "none"])
@pytest.mark.parametrize("by_the_grid", [False, True])
def test_balance_is_a_choice(tmp_path: Path, make_manifest: MakeManifest, balance: Balance, by_the_grid: bool) -> None:
    """`all` evens out every split, `train` those without a test set, `none` no split; the grid's choice comes first."""
    manifest = six_classes(tmp_path, make_manifest)
    if by_the_grid:
        manifest, settings = manifest.model_copy(update={"balance": "all"}), DataSettings(balance=balance)
    else:
        manifest, settings = manifest.model_copy(update={"balance": balance}), DataSettings()
    dataset = prepare(manifest, settings, folder=tmp_path)
    truth = Counter((str(row["split"]), row["label"]) for row in rows_of(dataset))
    assert dataset.report["balance"] == balance
    for name in SPLITS:
        counts, told = [truth[name, number] for number in range(6)], dataset.report["splits"][name]
        assert counts == list(told["classes"].values())
        even = balance == "all" or (balance == "train" and name != "test")
        assert (len(set(counts)) == 1) is even
        assert told["dropped_by_balancing"] == told["items_before_balancing"] - told["items"]
        assert (told["dropped_by_balancing"] > 0) is even


def test_caps_keep_class_shares(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A cap leaves each class its share of what there was, to within one item, and a subset under a smaller cap."""
    manifest = six_classes(tmp_path, make_manifest)
    whole = prepare(manifest, DataSettings(), folder=tmp_path).report["splits"]["test"]["classes"]
    size, larger = sum(whole.values()), None
    for cap in (10_000, 500, 380, 100):
        dataset = prepare(manifest, DataSettings(test=cap), folder=tmp_path)
        inside = [row for row in rows_of(dataset) if row["split"] == "test"]
        counts = dataset.report["splits"]["test"]["classes"]
        assert sum(counts.values()) == len(inside) == min(cap, size)
        for name, count in counts.items():
            assert abs(count - len(inside) * whole[name] / size) <= 1
        ids = {row["item_id"] for row in inside}
        assert larger is None or ids < larger
        larger = ids


def test_a_cap_that_leaves_no_item_of_a_class_is_a_fault(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The error says from which cap on every class is there; that cap is enough, and one less is not."""
    manifest = six_classes(tmp_path, make_manifest)
    with pytest.raises(DataError, match="split test has 8, none of them c2") as caught:
        prepare(manifest, DataSettings(test=8), folder=tmp_path)
    found = re.search(r"raise its cap of 8: (\d+) items", caught.value.remedy or "")
    assert found is not None
    prepare(manifest, DataSettings(test=int(found[1])), folder=tmp_path)
    with pytest.raises(DataError):
        prepare(manifest, DataSettings(test=int(found[1]) - 1), folder=tmp_path)


def test_balance_is_part_of_the_digest(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Another balance is other data, though every item be the same; what a store has of it gives the digest again."""
    rows = [{"text": text, "label": ("no", "yes")[n % 2]} for n, text in enumerate(sentences(400, 9))]
    write_csv(tmp_path / "data.csv", rows)
    made = [prepare(make_manifest(), DataSettings(balance=name), folder=tmp_path) for name in ("all", "train", "none")]
    assert len({dataset.data_digest for dataset in made}) == 3
    for dataset in made:
        row = {**vars(dataset), "settings": None, "report": json.dumps(dataset.report)}
        assert digest_of(row, dataset.items) == dataset.data_digest


@pytest.mark.parametrize("majority", [50, 80])
def test_a_smaller_cap_of_balanced_items(tmp_path: Path, make_manifest: MakeManifest, majority: int) -> None:
    """Balanced items stay so under a cap, and are among those under every larger cap; other splits are not touched."""
    rows = [{"text": text, "label": "no" if n % 100 < majority else "yes"} for n, text in enumerate(sentences(600, 4))]
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(balance="all")
    larger: set[object] | None = None
    others: set[object] | None = None
    for cap in (10_000, 60, 31, 10, 2):
        dataset = prepare(manifest, DataSettings(transfer=cap), folder=tmp_path)
        inside = [row for row in rows_of(dataset) if row["split"] == "transfer"]
        ids = {row["item_id"] for row in inside}
        counts = Counter(row["label"] for row in inside)
        if larger is not None:
            assert len(ids) == cap
            assert ids < larger
            assert abs(counts[0] - counts[1]) <= 1
        rest = {row["item_id"] for row in rows_of(dataset) if row["split"] != "transfer"}
        assert others is None or rest == others
        larger, others = ids, rest


def test_manifest_caps_hold_where_the_grid_gives_none(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A grid's cap replaces the manifest's; without one the manifest's holds."""
    write_csv(tmp_path / "data.csv", balanced_rows(300))
    splits = {"weak_train": {"share": 0.4, "items": 20}, "transfer": 0.3, "validation": 0.1, "test": 0.2}
    manifest = make_manifest(splits=splits)
    assert prepare(manifest, DataSettings(), folder=tmp_path).report["splits"]["weak_train"]["items"] == 20
    assert prepare(manifest, DataSettings(weak_train=30), folder=tmp_path).report["splits"]["weak_train"]["items"] == 30


def test_caps_beyond_the_data_take_what_there_is(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A cap larger than the split is no fault, changes no digest, and the report tells both numbers."""
    write_csv(tmp_path / "data.csv", balanced_rows(100))
    capped = prepare(make_manifest(), DataSettings(test=5000), folder=tmp_path)
    assert capped.data_digest == prepare(make_manifest(), DataSettings(), folder=tmp_path).data_digest
    counts = capped.report["splits"]["test"]
    assert counts["items_asked"] == 5000
    assert counts["items"] == counts["items_available"] < 5000


def test_too_little_data_is_a_fault_with_numbers(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A split without items or without a class stops the preparation, naming the split and how many items there are."""
    write_csv(tmp_path / "data.csv", balanced_rows(6))
    with pytest.raises(
        DataError, match=r"task little: too few items: split \w+ has \d+.* of 6 distinct items"
    ) as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert caught.value.remedy


def test_item_ids_come_from_content_alone(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The same text has the same id in another task, file and position, under another column name."""
    rows = balanced_rows(100)
    write_csv(tmp_path / "data.csv", rows)
    renamed = [{"verdict": row["label"].upper(), "body": f"{row['text']} "} for row in reversed(rows)]
    write_csv(tmp_path / "other.csv", renamed)
    other = make_manifest(
        name="other",
        template="Read this: {body}",
        label={"column": "verdict", "values": {"NO": "no", "YES": "yes"}},
        source={"kind": "path", "path": "other.csv"},
    )
    first = {row["item_id"]: row["text"] for row in rows_of(prepare(make_manifest(), DataSettings(), folder=tmp_path))}
    second = {row["item_id"]: row["text"] for row in rows_of(prepare(other, DataSettings(), folder=tmp_path))}
    assert len(first) > 50
    assert {name: f"Read this: {text}" for name, text in first.items()} == second
