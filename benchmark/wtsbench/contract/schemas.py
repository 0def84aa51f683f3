"""Arrow schemas of the store's tables: what trials write, what the store keeps, what exports hold.

    items         one row an item of a prepared data set
    datasets      one row a prepared data set
    grids         one row a submission of a grid
    attempts      one row an attempt at a trial, from the moment it is begun
    trials        one row a *sealed* attempt: how it ended, and everything that says where its numbers come from
    metrics       scores and training curves of sealed attempts
    predictions   one row an item and sealed attempt: a distribution over the classes
    generations   one row a sampled continuation of a prompt, of sealed attempts at generative tasks
    scores        one row a generation and scorer: what the scorer says of it
    logs          lines of sealed attempts

Keys. `data_digest` joins items, datasets and trials; `trial_id` is the content address of a trial, a SHA-256 in
hexadecimal digits; `(trial_id, attempt)` joins the other tables, attempts being counted from 1. A trial has any number
of failed attempts and at most one whose status is `done`: take that one for results.

Author. `attempts.token` and `attempts.scope` are the name and the scope of the token with which the attempt was begun
on a server; null without a server, and in attempts of older versions. Trials run with a token for one grid have ids of
their own (`spec.trial.id_within`), which other grids use only if told to.

Visibility. `trials`, `metrics`, `predictions`, `generations`, `scores` and `logs` are attempt-scoped: they travel as
records, and their rows become visible together, when the attempt's `trials` row and as many records as it says, its own
included (`trials.records`), are there. `trials.records_digest` is the store's own: the digest of those records, equal
where two attempts are one and the same execution.

Forms. `datasets.form` says what a task's trials make: `classification` has labels and predictions; `generation` has
prompts (`items.text`), for some of them a continuation to learn from (`items.target`), no labels, and generations with
scores. `scores.scorer` is the digest of the scorer's identity: scores of different scorers never share a column.

Units and conventions. Times are UTC with microseconds; `duration_s` is in seconds. `label` and the positions in
`probabilities` are indices into `datasets.labels`. `split` is weak_train, transfer, validation, test or ood (the test
set out of the task's distribution, where it has one), in `predictions` and `generations` of supervisors that were asked
in several ways also `transfer~1` and so on. `sample` counts from 0. Log-likelihoods are in nats; `logprobs` and
`base_logprobs` have a number for each character of `text` (a token's is spread evenly over what it writes), and one
more for the end where `finished`; `tokens` does not count the end. A metric with a null
`step` is a final score, others are points of a training curve; a null `value` was measured and is not a number.
Columns that hold JSON: `datasets.report` (how the data were prepared), `datasets.settings` (how generations are drawn
and judged), `grids.cells` (what the leaderboard is to show),
`trials.strategy_json`, `trials.baselines`, `trials.spec` (all of the trial's specification), `trials.measurements`
(losses, seconds of each phase, peak memory in bytes, library versions). What is missing is null, never zero.
"""

import pyarrow as pa

SCHEMA_VERSION = 5
"""Raised when a table changes. A store, and every record on its way there, says which one it was written in."""

_TIME = pa.timestamp("us", tz="UTC")


def _required(*fields: tuple[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in fields]


def _optional(*fields: tuple[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(name, kind) for name, kind in fields]


_ATTEMPT = _required(("trial_id", pa.string()), ("attempt", pa.int32()))

ITEMS = pa.schema(
    _required(
        ("data_digest", pa.string()),
        ("item_id", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
    )
    + _optional(("label", pa.int32()), ("target", pa.string()))
)
DATASETS = pa.schema(
    _required(
        ("data_digest", pa.string()),
        ("task", pa.string()),
        ("form", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("metric", pa.string()),
        ("report", pa.string()),
        ("created_at", _TIME),
    )
    + _optional(("settings", pa.string()))
)
GRIDS = pa.schema(
    _required(
        ("name", pa.string()),
        ("grid_digest", pa.string()),
        ("submission", pa.int64()),
        ("yaml", pa.string()),
        ("cells", pa.string()),
        ("submitted_at", _TIME),
    )
)
ATTEMPTS = pa.schema(
    _ATTEMPT
    + _required(("run", pa.string()), ("started_at", _TIME))
    + _optional(("token", pa.string()), ("scope", pa.string()))
)
TRIALS = pa.schema(
    _ATTEMPT
    + _required(("status", pa.string()))
    + _optional(
        ("failure_class", pa.string()),
        ("failure_message", pa.string()),
        ("failure_detail", pa.string()),
    )
    + _required(("role", pa.string()), ("task", pa.string()), ("model", pa.string()))
    + _optional(("strategy", pa.string()), ("strategy_json", pa.string()))
    + _required(
        ("seed", pa.int32()),
        ("data_seed", pa.int32()),
        ("data_digest", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("environment", pa.string()),
        ("baselines", pa.string()),
        ("spec", pa.string()),
        ("wtsbench_version", pa.string()),
    )
    + _optional(("git_commit", pa.string()), ("git_dirty", pa.bool_()))
    + _required(("environment_lock", pa.string()), ("sandbox", pa.string()), ("isolation", pa.string()))
    + _optional(("image_digest", pa.string()))
    + _required(("model_revision", pa.string()))
    + _optional(
        ("device", pa.string()),
        ("device_name", pa.string()),
        ("dtype", pa.string()),
        ("threads", pa.int32()),
        ("batch_size", pa.int32()),
    )
    + _required(
        ("host", pa.string()),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("duration_s", pa.float64()),
        ("measurements", pa.string()),
    )
    + _optional(("records", pa.int32()), ("records_digest", pa.string()))
)
METRICS = pa.schema(
    _ATTEMPT
    + _required(("name", pa.string()), ("split", pa.string()))
    + _optional(("step", pa.int64()), ("value", pa.float64()))
)
PREDICTIONS = pa.schema(
    _ATTEMPT + _required(("split", pa.string()), ("item_id", pa.string()), ("probabilities", pa.list_(pa.float64())))
)
GENERATIONS = pa.schema(
    _ATTEMPT
    + _required(
        ("split", pa.string()),
        ("item_id", pa.string()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("finished", pa.bool_()),
    )
    + _optional(
        ("logprobs", pa.list_(pa.float64())),
        ("base_logprobs", pa.list_(pa.float64())),
        ("reference_nll", pa.float64()),
        ("reference_tokens", pa.int32()),
    )
)
SCORES = pa.schema(
    _ATTEMPT
    + _required(
        ("split", pa.string()),
        ("item_id", pa.string()),
        ("sample", pa.int32()),
        ("scorer", pa.string()),
        ("value", pa.float64()),
    )
)
LOGS = pa.schema(_ATTEMPT + _required(("line", pa.int64()), ("stream", pa.string()), ("text", pa.string())))

RECORD_TABLES = {
    "trials": TRIALS,
    "metrics": METRICS,
    "predictions": PREDICTIONS,
    "generations": GENERATIONS,
    "scores": SCORES,
    "logs": LOGS,
}
"""The attempt-scoped tables, which records are made of."""
MADE_TABLES = {"classification": "predictions", "generation": "generations"}
"""By the form of a trial, the table of what it makes of items."""
TABLES = {"items": ITEMS, "datasets": DATASETS, "grids": GRIDS, "attempts": ATTEMPTS, **RECORD_TABLES}
