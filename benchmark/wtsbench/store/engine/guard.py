"""The SQL that readers may send: one SELECT over the published tables, without access to anything else.

Three barriers: the statement is parsed, and only known tables and functions are allowed; it runs in a process of its
own, whose database holds only the published tables that it names; and that database has no access to files,
extensions or settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from wtsbench.contract.schemas import TABLES
from wtsbench.store.wire import StoreRefused
from wtsbench.visible import first_line

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
"""Kinds of query that only read; others change rows, even inside of WITH."""
_FUNCTIONS = frozenset(
    {
        "current_setting",
        "getenv",
        "getvariable",
        "setseed",
        "nextval",
        "currval",
        "setval",
        "write_log",
        "sleep_ms",
        "stats",
        "current_query",
        "current_schemas",
        "in_search_path",
    }
)
"""Forbidden scalar functions: they reveal facts about the server or act on it."""
_WHOLE = frozenset({"STAR", "PIVOT", "COLUMNS"})
"""Kinds of expressions and tables that select columns without naming them."""
_CTE = re.compile(r"[a-z_][a-z0-9_]*")
_REMEDY = f"ask with one SELECT over: {', '.join(sorted(TABLES))}."


def require_harmless(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, list[str]]:
    """Refuse SQL that is not one SELECT over the published tables.

    Args:
        connection: used for its parser only.
        sql: as a client sent it.

    Returns:
        The tables that it reads, each with the columns that it may need.

    Raises:
        StoreRefused: it is something else, named in the message.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise StoreRefused(f"the SQL cannot be parsed: {first_line(error)}", remedy=_REMEDY) from None
    if len(statements) != 1:
        raise StoreRefused(f"{len(statements)} statements in place of one", remedy=_REMEDY)
    if statements[0].type != duckdb.StatementType.SELECT:
        raise StoreRefused(f"a statement of kind {statements[0].type.name} in place of a SELECT", remedy=_REMEDY)
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    tree = json.loads(rows[0][0])
    if tree.get("error"):
        raise StoreRefused("the SQL is no plain SELECT", remedy=_REMEDY)
    named = set(_ctes(tree)) - set(TABLES)
    # A name from WITH is valid only inside of that query; elsewhere the engine would resolve it to its own table.
    hidden = sorted(name for name in named if not _CTE.fullmatch(name))
    hidden = hidden or (sorted(named & _existing(connection)) if named else [])
    if hidden:
        raise StoreRefused(f"WITH cannot give the name {hidden[0]!r}", remedy="choose another name.")
    allowed = set(TABLES) | named
    for node in _nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in _QUERIES:
            raise StoreRefused("only SELECT may stand in the SQL", remedy=_REMEDY)
        if kind == "BASE_TABLE" and (node.get("catalog_name") or node.get("schema_name") not in ("", "main")):
            raise StoreRefused(f"{node.get('schema_name')}.{node.get('table_name')} is not for readers", remedy=_REMEDY)
        if kind == "BASE_TABLE" and node.get("table_name", "").lower() not in allowed:
            raise StoreRefused(f"{node.get('table_name')!r} is no table of the store", remedy=_REMEDY)
        if kind == "TABLE_FUNCTION" and _function(node) not in TABLE_FUNCTIONS:
            raise StoreRefused(f"the table function {_function(node)!r} is not for readers", remedy=_REMEDY)
        if str(node.get("function_name", "")).lower() in _FUNCTIONS:
            raise StoreRefused(f"the function {node['function_name']!r} is not for readers", remedy=_REMEDY)
        if kind in ("SHOW_REF", "DELIM_GET", "COLUMN_DATA"):
            raise StoreRefused("only tables can be read", remedy=_REMEDY)
    return _needed(tree)


def _needed(tree: Any) -> dict[str, list[str]]:
    """For each table named in the query its columns that are named; all of them if some are selected without a name."""
    nodes = list(_nodes(tree))
    words = {word.lower() for word in _words(tree)}
    refs = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    rows = {str(node.get(key) or "").lower() for node in refs for key in ("table_name", "alias")} - {""}
    all_columns = any(
        node.get("type") in _WHOLE
        or node.get("class") in _WHOLE
        or node.get("ref_type") == "NATURAL"
        or (node.get("type") == "COLUMN_REF" and not rows.isdisjoint(map(str.lower, node["column_names"][-1:])))
        for node in nodes
    )
    tables = sorted({str(node["table_name"]).lower() for node in refs} & set(TABLES))
    named = {table: [name for name in TABLES[table].names if all_columns or name in words] for table in tables}
    return {table: names or TABLES[table].names[:1] for table, names in named.items()}


def _words(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _words(value)


def _existing(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Names of all tables and views that need no schema before them, the engine's own included."""
    names = connection.execute(
        "SELECT lower(table_name) FROM duckdb_tables() WHERE schema_name <> 'operations'"
        " UNION SELECT lower(view_name) FROM duckdb_views()"
    )
    return {name for (name,) in names.fetchall()}


def _function(node: dict[str, Any]) -> str:
    return str((node.get("function") or {}).get("function_name", "")).lower()


def _ctes(tree: Any) -> Iterator[str]:
    for node in _nodes(tree):
        for entry in (node.get("cte_map") or {}).get("map", ()):
            yield str(entry["key"]).lower()
        if node.get("type") in ("CTE_NODE", "RECURSIVE_CTE_NODE"):
            yield str(node.get("cte_name") or "").lower()


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
