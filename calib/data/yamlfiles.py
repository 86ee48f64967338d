"""YAML of other systems: read without building a single object of theirs.

Training configurations hold tags (``!new:cosyvoice...``, ``!ref <x>``, ``!apply:...``, ``!!python/object``). Here every
unknown tag becomes `Tagged`, which keeps its name and its value and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from calib.errors import DataError

__all__ = ["Tagged", "parse_yaml"]

# Aliases that point to aliases can unfold without end; no configuration has so many nodes.
_MOST_NODES = 200_000
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Tagged:
    """A node with a tag that is not built: ``!new:some.Class {a: 1}`` is ``Tagged("!new:some.Class", {"a": 1})``."""

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    """SafeLoader, with inert unknown tags."""


def _inert(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        value: Any = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.ScalarNode)
        value = loader.construct_scalar(node)
    if node.tag == "tag:yaml.org,2002:python/tuple":
        return value
    return Tagged(suffix, value)


_Loader.add_multi_constructor("", _inert)


def parse_yaml(text: str, path: str) -> Any:
    """The document in plain containers and `Tagged`.

    Raises:
        DataError: not YAML, several documents, or unreasonably large.
    """
    if len(text) > _LARGEST:
        raise DataError(f"{path}: {len(text) >> 20} MiB of text; no configuration is so large")
    loader = None
    try:
        loader = _Loader(text)
        found = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as YAML: {detail:.200}") from None
    except (TypeError, AttributeError) as error:  # an unhashable key
        raise DataError(f"{path}: cannot be read as YAML: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if _too_many(found):
        raise DataError(f"{path}: unfolds to more than {_MOST_NODES} values; no configuration does")
    return found


def _too_many(root: Any) -> bool:
    left, stack = _MOST_NODES, [root]
    while stack and left:
        left -= 1
        value = stack.pop()
        if isinstance(value, Tagged):
            stack.append(value.value)
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, (list, tuple)):
            stack.extend(value)
    return not left
