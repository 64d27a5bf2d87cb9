"""The JSON Schema of a diagnosis, made from its types: docs/diagnosis.schema.json."""

from __future__ import annotations

import re
import types
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from checks.diagnosis import Diagnosis
from checks.finding import Status

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema() -> dict[str, Any]:
    """For draft 2020-12. Every object is closed: what is not in here is not in a diagnosis."""
    shapes: dict[str, Any] = {}
    top = _shape(Diagnosis, shapes)
    shapes["Diagnosis"]["properties"]["format"] = {"const": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dnsmend diagnosis",
        **top,
        "$defs": dict(sorted(shapes.items())),
    }


def _shape(kind: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    origin, given = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is Status:
        return {"enum": [str(status) for status in Status]}
    if origin is Literal:
        return {"enum": list(given)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_shape(one, shapes) for one in given]}
    if origin in (NotRequired, Required):
        return _shape(given[0], shapes)
    if origin is list:
        return {"type": "array", "items": _shape(given[0], shapes)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _shape(given[1], shapes)}
    if not is_typeddict(kind):
        raise TypeError(f"no JSON Schema for {kind}")
    if kind.__name__ not in shapes:
        shapes[kind.__name__] = {}  # a shape may hold itself
        shapes[kind.__name__] = _object(kind, shapes)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _object(kind: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    text = kind.__doc__ or ""
    said = _meanings(text)
    properties = {}
    hints = get_type_hints(kind, include_extras=True)
    for name, hint in hints.items():
        properties[name] = _shape(hint, shapes)
        if name in said:
            properties[name]["description"] = said[name]
    return {
        "type": "object",
        "description": re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip(),
        "properties": properties,
        # Annotations are text in these modules: __required_keys__ does not see their NotRequired.
        "required": sorted(name for name, hint in hints.items() if get_origin(hint) is not NotRequired),
        "additionalProperties": False,
    }


def _meanings(docstring: str) -> dict[str, str]:
    """`+ name, name: meaning; name: meaning` of a docstring, by name."""
    found: dict[str, str] = {}
    for item in re.split(r"^\s*\+ ", docstring, flags=re.MULTILINE)[1:]:
        item = re.sub(r"\s+", " ", item).strip()
        for part in re.split(r"; (?=[a-z_]+(?:, [a-z_]+)*: )", item):
            names, _, meaning = part.partition(": ")
            found |= dict.fromkeys(names.split(", "), meaning)
    return found
