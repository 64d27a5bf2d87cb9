"""Whether JSON from somebody else has the shape that a type says: what is read back is data, and nothing more."""

from __future__ import annotations

import math
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

_PLAIN = (str, bool, NoneType)


def misfit(value: Any, kind: Any, place: str = "") -> str:
    """What does not fit, with its place in the value; "" where all of it does.

    + kind: a TypedDict (generic ones too), list, dict, tuple, Literal, a union, or a plain type

    `Any` and keys that a TypedDict does not know fit: a newer dnsmend may have written them. A number must be finite.
    """
    origin, given = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        found = [misfit(value, one, place) for one in given]
        # What is wrong deep inside says more than that it is not None.
        return "" if "" in found else max(found, key=len)
    if origin is Literal:
        return (
            "" if any(value == one and type(value) is type(one) for one in given) else _not(place, "one of its words")
        )
    if origin in (NotRequired, Required):
        return misfit(value, given[0], place)
    if is_typeddict(origin or kind):
        return _object(value, kind, place)
    if origin is list:
        if not isinstance(value, list):
            return _not(place, "a list")
        return next(filter(None, (misfit(one, given[0], f"{place}[{at}]") for at, one in enumerate(value))), "")
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return _not(place, "an object")
        return next(filter(None, (misfit(one, given[1], f"{place}[{key!r}]") for key, one in value.items())), "")
    if origin is tuple:
        return _tuple(value, given, place)
    if kind is Any:
        return ""
    return (
        "" if _is(value, kind) else _not(place, "nothing" if kind is NoneType else f"a value of type {kind.__name__}")
    )


def _is(value: Any, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def _object(value: Any, kind: Any, place: str) -> str:
    if not isinstance(value, dict):
        return _not(place, "an object")
    for name, hint, required in _fields(kind):
        if name in value:
            if problem := misfit(value[name], hint, f"{place}.{name}" if place else name):
                return problem
        elif required:
            return f"{place or 'it'} has no {name}"
    return ""


def _tuple(value: Any, given: tuple[Any, ...], place: str) -> str:
    """JSON has lists only."""
    if not isinstance(value, list | tuple):
        return _not(place, "a list")
    if given[1:] == (...,):
        return misfit(list(value), list[given[0]], place)  # type: ignore[valid-type]
    if len(value) != len(given):
        return _not(place, f"a list of {len(given)}")
    return next(filter(None, (misfit(one, kind, place) for one, kind in zip(value, given, strict=True))), "")


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Each field's name, type and whether it must be there; type variables as the generic was given them."""
    origin = get_origin(kind) or kind
    bound = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    hints = get_type_hints(origin, include_extras=True)
    return tuple(
        (name, bound.get(hint, hint) if isinstance(hint, TypeVar) else hint, get_origin(hint) is not NotRequired)
        for name, hint in hints.items()
    )


def _not(place: str, what: str) -> str:
    return f"{place or 'it'} is not {what}"
