# %% [markdown]
# # wtsbench in Python
#
# Run a grid, look at its leaderboard, and ask the store. It takes a minute or two on two cores: the task is generated,
# and the models are tiny ones that wtsbench makes itself, so what they score says nothing about real models.

# %%
import wtsbench

STORE = "quickstart-store"

# %% [markdown]
# A grid is a dict here; a name, a file or YAML text does as well. `plan` runs nothing.

# %%
grid = {
    "name": "from-python",
    "tasks": ["safety-mini"],
    "pairs": [{"weak": "nano-1", "strong": "nano-2"}],
    "strategies": ["naive", {"name": "logconf", "max_weight": 0.5}],
    "seeds": [0, 1],
    "data": {"weak_train": 200, "transfer": 300, "validation": 60, "test": 300},
}
planned = wtsbench.plan(grid, store=STORE)
print(f"{planned.total} trials, {planned.shared} of them shared, {planned.to_run} to run")

# %% [markdown]
# One call runs what the store lacks. Interrupt it at any time: the same call goes on from there.

# %%
summary = wtsbench.submit(grid, store=STORE, executor="in-process")
print(f"{summary.done} run, {summary.stored} stored before, {summary.failed} failed")

# %% [markdown]
# The leaderboard: as the last expression of a cell it shows itself; as typed rows, a data frame or Markdown elsewhere.

# %%
store = wtsbench.open_store(STORE)
board = wtsbench.leaderboard(store)
for row in board.rows:
    print(row.strategy, row.student_score, row.unranked or f"rank {row.rank}")
board

# %%
frame = board.to_pandas()
print(frame[["strategy", "weak_score", "student_score", "ceiling_score", "seeds_done"]])

# %%
pairs = wtsbench.compare(store, metric="f1")
pairs

# %% [markdown]
# Everything is in the store, down to the prediction of each item. Each method gives an Arrow table; `sql` takes one
# SELECT.

# %%
accuracy = store.sql(
    """
    SELECT t.role, t.model, t.strategy, avg(m.value) AS accuracy
    FROM trials AS t JOIN metrics AS m USING (trial_id, attempt)
    WHERE t.status = 'done' AND m.name = 'accuracy' AND m.split = ?
    GROUP BY ALL ORDER BY ALL
    """,
    ["test"],
).to_pandas()
print(accuracy)

# %%
hardest = (
    store.predictions(splits=["test"])
    .to_pandas()
    .assign(confidence=lambda rows: rows["probabilities"].map(max))
    .groupby("item_id")["confidence"]
    .mean()
    .nsmallest(3)
)
items = store.items().to_pandas().set_index("item_id")
print(items.loc[hardest.index, ["text", "label"]])
