"""The statements that made a store of schema version 4, as that version had them."""

STATEMENTS = (
    "CREATE TABLE store (schema_version INTEGER NOT NULL)",
    "CREATE TABLE attempt_keys (key BIGINT PRIMARY KEY, trial_id VARCHAR NOT NULL, attempt INTEGER NOT NULL, run "
    "VARCHAR, started_at TIMESTAMP, token VARCHAR, scope VARCHAR, UNIQUE (trial_id, attempt))",
    "CREATE TABLE ledger (key BIGINT, sequence BIGINT, table_name VARCHAR NOT NULL, row_count BIGINT NOT NULL, "
    "digest VARCHAR NOT NULL, PRIMARY KEY (key, sequence))",
    "CREATE TABLE done (trial_id VARCHAR PRIMARY KEY, key BIGINT NOT NULL)",
    "CREATE TABLE superseded (key BIGINT PRIMARY KEY)",
    "CREATE TABLE items (data_digest VARCHAR NOT NULL, item_id VARCHAR NOT NULL, group_id VARCHAR NOT NULL, split "
    "VARCHAR NOT NULL, text VARCHAR NOT NULL, label INTEGER, target VARCHAR)",
    "CREATE TABLE datasets (data_digest VARCHAR NOT NULL, task VARCHAR NOT NULL, form VARCHAR NOT NULL, labels "
    "VARCHAR[] NOT NULL, metric VARCHAR NOT NULL, report VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL, "
    "settings VARCHAR, PRIMARY KEY (data_digest))",
    "CREATE TABLE grids (name VARCHAR NOT NULL, grid_digest VARCHAR NOT NULL, submission BIGINT NOT NULL, yaml "
    "VARCHAR NOT NULL, cells VARCHAR NOT NULL, submitted_at TIMESTAMP NOT NULL, PRIMARY KEY (submission))",
    "CREATE TABLE trials_rows (key BIGINT PRIMARY KEY, status VARCHAR NOT NULL, failure_class VARCHAR, "
    "failure_message VARCHAR, failure_detail VARCHAR, role VARCHAR NOT NULL, task VARCHAR NOT NULL, model VARCHAR "
    "NOT NULL, strategy VARCHAR, strategy_json VARCHAR, seed INTEGER NOT NULL, data_seed INTEGER NOT NULL, "
    "data_digest VARCHAR NOT NULL, parents VARCHAR[] NOT NULL, environment VARCHAR NOT NULL, baselines VARCHAR "
    "NOT NULL, spec VARCHAR NOT NULL, wtsbench_version VARCHAR NOT NULL, git_commit VARCHAR, git_dirty BOOLEAN, "
    "environment_lock VARCHAR NOT NULL, sandbox VARCHAR NOT NULL, isolation VARCHAR NOT NULL, image_digest "
    "VARCHAR, model_revision VARCHAR NOT NULL, device VARCHAR, device_name VARCHAR, dtype VARCHAR, threads "
    "INTEGER, batch_size INTEGER, host VARCHAR NOT NULL, started_at TIMESTAMP NOT NULL, finished_at TIMESTAMP NOT "
    "NULL, duration_s DOUBLE NOT NULL, measurements VARCHAR NOT NULL, records INTEGER, records_digest VARCHAR)",
    "CREATE TABLE metrics_rows (key BIGINT NOT NULL, name VARCHAR NOT NULL, split VARCHAR NOT NULL, step BIGINT, "
    "value DOUBLE)",
    "CREATE TABLE predictions_rows (key BIGINT NOT NULL, split VARCHAR NOT NULL, item_id VARCHAR NOT NULL, "
    "probabilities DOUBLE[] NOT NULL)",
    "CREATE TABLE generations_rows (key BIGINT NOT NULL, split VARCHAR NOT NULL, item_id VARCHAR NOT NULL, sample "
    "INTEGER NOT NULL, text VARCHAR NOT NULL, tokens INTEGER NOT NULL, finished BOOLEAN NOT NULL, logprobs "
    "DOUBLE[], base_logprobs DOUBLE[], reference_nll DOUBLE, reference_tokens INTEGER)",
    "CREATE TABLE scores_rows (key BIGINT NOT NULL, split VARCHAR NOT NULL, item_id VARCHAR NOT NULL, sample "
    "INTEGER NOT NULL, scorer VARCHAR NOT NULL, value DOUBLE NOT NULL)",
    "CREATE TABLE logs_rows (key BIGINT NOT NULL, line BIGINT NOT NULL, stream VARCHAR NOT NULL, text VARCHAR NOT "
    "NULL)",
    "CREATE TABLE trials_waiting AS FROM trials_rows LIMIT 0",
    "CREATE VIEW attempts AS SELECT trial_id, attempt, run, started_at, token, scope FROM attempt_keys WHERE "
    "started_at IS NOT NULL",
    "CREATE VIEW trials AS SELECT k.trial_id, k.attempt, r.status, r.failure_class, r.failure_message, "
    "r.failure_detail, r.role, r.task, r.model, r.strategy, r.strategy_json, r.seed, r.data_seed, r.data_digest, "
    "r.parents, r.environment, r.baselines, r.spec, r.wtsbench_version, r.git_commit, r.git_dirty, "
    "r.environment_lock, r.sandbox, r.isolation, r.image_digest, r.model_revision, r.device, r.device_name, "
    "r.dtype, r.threads, r.batch_size, r.host, r.started_at, r.finished_at, r.duration_s, r.measurements, "
    "r.records, r.records_digest FROM trials_rows AS r JOIN attempt_keys AS k USING (key)",
    "CREATE VIEW metrics AS SELECT k.trial_id, k.attempt, r.name, r.split, r.step, r.value FROM metrics_rows AS r "
    "JOIN attempt_keys AS k USING (key) SEMI JOIN trials_rows AS t ON t.key = r.key",
    "CREATE VIEW predictions AS SELECT k.trial_id, k.attempt, r.split, r.item_id, r.probabilities FROM "
    "predictions_rows AS r JOIN attempt_keys AS k USING (key) SEMI JOIN trials_rows AS t ON t.key = r.key",
    "CREATE VIEW generations AS SELECT k.trial_id, k.attempt, r.split, r.item_id, r.sample, r.text, r.tokens, "
    "r.finished, r.logprobs, r.base_logprobs, r.reference_nll, r.reference_tokens FROM generations_rows AS r JOIN "
    "attempt_keys AS k USING (key) SEMI JOIN trials_rows AS t ON t.key = r.key",
    "CREATE VIEW scores AS SELECT k.trial_id, k.attempt, r.split, r.item_id, r.sample, r.scorer, r.value FROM "
    "scores_rows AS r JOIN attempt_keys AS k USING (key) SEMI JOIN trials_rows AS t ON t.key = r.key",
    "CREATE VIEW logs AS SELECT k.trial_id, k.attempt, r.line, r.stream, r.text FROM logs_rows AS r JOIN "
    "attempt_keys AS k USING (key) SEMI JOIN trials_rows AS t ON t.key = r.key",
)
"""Readers of a store with these tables have what they had: they are not to be changed."""
