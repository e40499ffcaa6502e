"""YAML as plain data and nothing else: no tags, no duplicate keys, no bombs; `no`, `on`, `1:30` and dates stay text."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1 << 20
MAX_VALUES = 50_000
MAX_DEPTH = 40

_CORE = {"tag:yaml.org,2002:" + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


class YamlFault(Exception):
    """What is wrong, in one line."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's idea of scalars."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:" + _tag, re.compile(f"^(?:{_pattern})$"), _first)


def _construct_mapping(loader: Any, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, Node] = {}
    for key_node, _ in node.value:
        key = _key(key_node)
        if key in seen:
            raise YamlFault(f"{_place(key_node)}: key {key_node.value!r} is there twice (first on line {seen[key].start_mark.line + 1})")
        seen[key] = key_node
    loader.flatten_mapping(node)
    return {_key(key): loader.construct_object(value, deep=True) for key, value in node.value}


def _key(node: Node) -> str | None:
    """Keys are text: `1:` and `true:` would be one key to Python otherwise."""
    if not isinstance(node, ScalarNode):
        raise YamlFault(f"{_place(node)}: a key must be a word")
    if node.tag.endswith(":null"):
        return None
    return node.value.lower() if node.tag.endswith(":bool") else str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _place(node: Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def _measure(node: Node, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """How many values the node has once its aliases are written out. Refuses recursion and tags."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_nodes:
        raise YamlFault(f"{_place(node)}: an alias holds itself")
    if node.tag not in _CORE:
        raise YamlFault(f"{_place(node)}: tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed")
    open_nodes.add(id(node))
    total = 1
    if isinstance(node, SequenceNode):
        total += sum(_measure(item, sizes, open_nodes) for item in node.value)
    elif isinstance(node, MappingNode):
        total += sum(_measure(key, sizes, open_nodes) + _measure(value, sizes, open_nodes) for key, value in node.value)
    open_nodes.discard(id(node))
    sizes[id(node)] = total
    if total > MAX_VALUES:
        raise YamlFault(f"{_place(node)}: expands to more than {MAX_VALUES} values")
    return total


def _guard_events(text: str) -> None:
    """Depth and number of values, before anything is built (deep nesting would overflow the composer's stack)."""
    depth = 0
    for values, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise YamlFault(f"line {line}: nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if values > 3 * MAX_VALUES:
            raise YamlFault(f"has more than {MAX_VALUES} values")


def plain_data(text: str) -> Any:
    """The document as dicts, lists and scalars. Raises YamlFault."""
    if len(text) > MAX_BYTES:
        raise YamlFault(f"is larger than {MAX_BYTES >> 20} MB")
    try:
        _guard_events(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlFault(f"{where}{error.problem or error.context or 'is not YAML'}") from None
    except yaml.YAMLError as error:
        raise YamlFault(f"is not YAML: {str(error).splitlines()[0]}") from None
