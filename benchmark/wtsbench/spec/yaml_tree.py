"""A YAML file as a tree of plain values with their places in the file.

Scalars are read by the core schema of YAML 1.2: `true` and `false` are booleans, `5e-5` is a number, and `yes`, `on`,
`1:30` or a date are texts. (PyYAML alone follows YAML 1.1, which reads all of these differently.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wtsbench.files import open_plain
from wtsbench.spec.faults import Fault, SpecFaults
from wtsbench.spec.yaml_syntax import syntax_fault, unreadable_fault
from wtsbench.visible import shortened, visible

MAX_BYTES = 256 * 1024
"""A larger file is not a grid or manifest."""
_MAX_NODES = 100_000
_MAX_DEPTH = 100
_TAG = "tag:yaml.org,2002:"
_PLAIN_KEY = re.compile(r"[\w.-]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A value of the file, its place, and its children."""

    file: str
    path: str
    """As `strategies[1].max_weight`; empty for the document."""
    line: int
    """Counted from 1. Of a list or mapping under a key, the key's line."""
    column: int
    value: Any
    """None, bool, int, float, str, list or dict."""
    children: Mapping[Any, Node] = field(default_factory=dict)
    """By key of a mapping, or by index of a list."""
    keys: Mapping[Any, tuple[int, int]] = field(default_factory=dict)
    """Line and column of every key of a mapping."""

    def child(self, *parts: str | int) -> Node | None:
        """The node below; None if the file has none there."""
        node: Node | None = self
        for part in parts:
            node = None if node is None else node.children.get(part)
        return node

    def entries(self, *parts: str | int) -> tuple[Node, ...]:
        """The entries of the list below; empty if the file has no list there."""
        node = self.child(*parts)
        return tuple(node.children.values()) if node is not None and isinstance(node.value, list) else ()

    def fault(self, message: str, *, suggestion: str | None = None) -> Fault:
        """A fault of this value."""
        return Fault(
            file=self.file, path=self.path, line=self.line, column=self.column, message=message, suggestion=suggestion
        )

    def key_fault(self, key: Any, message: str, *, suggestion: str | None = None) -> Fault:
        """A fault of one of this mapping's keys, present or missing."""
        line, column = self.keys.get(key, (self.line, self.column))
        path = joined(self.path, key)
        return Fault(file=self.file, path=path, line=line, column=column, message=message, suggestion=suggestion)


def joined(path: str, part: Any) -> str:
    """The path of a child."""
    if isinstance(part, int) and not isinstance(part, bool):
        return f"{path}[{part}]"
    if not _PLAIN_KEY.fullmatch(str(part)):
        return f"{path}[{str(part)!r}]"
    return f"{path}.{part}" if path else str(part)


def shown(path: Path) -> str:
    """A file's path in messages: relative to the working folder if it is below that."""
    try:
        return visible(str(path.resolve().relative_to(Path.cwd())))
    except (ValueError, OSError, RuntimeError):  # RuntimeError: symbolic links that lead to themselves
        return shortened(str(path), 400)


def read(path: Path) -> tuple[Node, list[Fault]]:
    """The tree of a YAML file that holds one mapping, and the faults that do not prevent reading it.

    Raises:
        SpecFaults: the file cannot be read, is not YAML, or holds something else than a mapping.
    """
    return parse(_text(path), shown(path))


def parse(text: str, file: str) -> tuple[Node, list[Fault]]:
    """The same for a text; `file` is its name in faults."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        raise SpecFaults([unreadable_fault(text, error, file)]) from None
    except yaml.MarkedYAMLError as error:
        raise SpecFaults([syntax_fault(error, file)]) from None
    except RecursionError:
        raise SpecFaults([Fault(file=file, message="nested too deeply")]) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _TAG + "null"):
        raise SpecFaults([Fault(file=file, message="the file is empty")])
    builder = _Builder(file)
    tree = builder.build(root, "", None)
    if not isinstance(tree.value, dict):
        kind = "list" if isinstance(tree.value, list) else "single value"
        raise SpecFaults([*builder.faults, tree.fault(f"the file must hold `key: value` lines, not a {kind}")])
    return tree, builder.faults


def _text(path: Path) -> str:
    name = shown(path)

    def refuse(message: str, line: int | None = None) -> SpecFaults:
        return SpecFaults([Fault(file=name, message=message, line=line)])

    try:
        with open_plain(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("there is no such file") from None
    except IsADirectoryError:
        raise refuse("is a folder, not a file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1024} KiB, so it is not a grid or manifest")
    if b"\0" in data:
        raise refuse("is not a text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse("is not UTF-8 text", line=data.count(b"\n", 0, error.start) + 1) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 -- as PyYAML declares it


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


class _Builder:
    """Turns PyYAML's nodes into `Node`, and collects faults on the way."""

    def __init__(self, file: str) -> None:
        self.faults: list[Fault] = []
        self._file = file
        self._count = 0
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: str, key: yaml.Node | None) -> Node:
        """The tree below a node; `key` is the key it stands under, if any."""
        self._count += 1
        if node in self._open:
            raise SpecFaults([*self.faults, self._fault(node, path, "contains itself")])
        if len(self._open) > _MAX_DEPTH or self._count > _MAX_NODES:
            raise SpecFaults([*self.faults, self._fault(node, path, "is too large, or nested too deeply")])
        line, column = _place(node if key is None or isinstance(node, yaml.ScalarNode) else key)
        if isinstance(node, yaml.ScalarNode):
            return Node(file=self._file, path=path, line=line, column=column, value=self._scalar(node, path))
        self._open.append(node)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self.faults.append(self._fault(node, path, f"the tag {_tag(node)} has no meaning here"))
        keys: dict[Any, tuple[int, int]] = {}
        children: dict[Any, Node] = {}
        value: Any
        if isinstance(node, yaml.MappingNode):
            for name, (key_node, value_node) in self._pairs(node, path).items():
                keys[name] = _place(key_node)
                children[name] = self.build(value_node, joined(path, name), key_node)
            value = {name: child.value for name, child in children.items()}
        else:
            for index, entry in enumerate(node.value):
                children[index] = self.build(entry, joined(path, index), None)
            value = [child.value for child in children.values()]
        self._open.pop()
        return Node(file=self._file, path=path, line=line, column=column, value=value, children=children, keys=keys)

    def _pairs(self, node: yaml.MappingNode, path: str) -> dict[Any, tuple[yaml.Node, yaml.Node]]:
        """A mapping's entries, as nodes of key and value; those merged by `<<` come last, and its own replace them."""
        own: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(source, yaml.MappingNode) or source in self._open:
                        where = joined(path, "<<")
                        self.faults.append(self._fault(key_node, where, "must name an anchor of a mapping"))
                        continue
                    self._open.append(source)
                    for name, pair in self._pairs(source, path).items():
                        merged.setdefault(name, pair)
                    self._open.pop()
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append(self._fault(key_node, path, "a key must be a plain text"))
                continue
            name = self._scalar(key_node, path)
            if name is None:
                self.faults.append(self._fault(key_node, path, "a key is missing before the colon"))
            elif name in own:
                first = _place(own[name][0])[0]
                self.faults.append(
                    self._fault(key_node, joined(path, name), f"this key is given twice, first in line {first}")
                )
            else:
                own[name] = (key_node, value_node)
        return own | {name: pair for name, pair in merged.items() if name not in own}

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            if kind == "null":
                return None
            if kind == "bool" and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if kind == "int":
                return int(text, 0 if text[:2] in ("0x", "0o") else 10)
            if kind == "float":
                number = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
                if not math.isfinite(number):
                    self.faults.append(self._fault(node, path, f"{text} is not a finite number"))
                return number
            if kind in ("str", "merge"):
                text.encode()
                return str(text)
        except UnicodeEncodeError:
            self.faults.append(self._fault(node, path, "holds half of a character, which no file can hold"))
            return text
        except ValueError:
            self.faults.append(self._fault(node, path, f"{text[:40]!r} is not a number"))
            return text
        self.faults.append(self._fault(node, path, f"the tag {_tag(node)} has no meaning here"))
        return text

    def _fault(self, node: yaml.Node, path: str, message: str) -> Fault:
        line, column = _place(node)
        return Fault(file=self._file, path=path, line=line, column=column, message=message)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _tag(node: yaml.Node) -> str:
    tag: str = node.tag
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
