"""Every description that an agent may not send, made up from the types: one wrong field each."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any

from agent.client.description import DescribedCore, DescribedDisk, MachineDescription

# These are one of a few words.
WORDS = {"mode": "restore", "firmware": "bios"}
# More than any list of a description may have, and longer than any of its texts.
_TOO_MANY, _TOO_LONG = 20_000, 5_000


@dataclass(frozen=True)
class WrongDescription:
    """A description with one wrong field, named from the outermost object on."""

    field: str
    what: str
    value: Any

    def __str__(self) -> str:
        return f"{self.field}-{self.what}"


def example(kind: type = MachineDescription) -> dict[str, Any]:
    """The JSON of a description, or of a part of one, that says all it can."""
    return {name: _example(hint, name) for name, hint in _hints(kind).items()}


def wrong_descriptions() -> Iterator[WrongDescription]:
    """Each field in turn missing, of a wrong type, too long, too large, too small."""
    for what, value in _NO_OBJECTS:
        yield WrongDescription("the whole", what, value)
    for field, what, value in _wrong_in(MachineDescription, example(), ""):
        yield WrongDescription(field, what, value)


def _example(hint: Any, name: str) -> Any:
    hint = _main(hint)
    if typing.get_origin(hint) is tuple:
        return [_example(typing.get_args(hint)[0], name)]
    if dataclasses.is_dataclass(hint):
        return example(typing.cast(type, hint))
    return {str: WORDS.get(name, "word"), int: 7, bool: True}[hint]


def _wrong_in(kind: type, valid: dict[str, Any], outer: str) -> Iterator[tuple[str, str, Any]]:
    for name, hint in _hints(kind).items():
        place = f"{outer}.{name}" if outer else name
        if name in _REQUIRED.get(kind, ()):
            yield place, "missing", {key: value for key, value in valid.items() if key != name}
        for within, what, value in _wrong_values(hint, valid[name], place):
            yield within, what, {**valid, name: value}


def _wrong_values(hint: Any, valid: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    hint = _main(hint)
    if typing.get_origin(hint) is tuple:
        (inner, *_) = typing.get_args(hint)
        for what, value in [("an object", {}), ("a word", "word"), ("a number", 7)]:
            yield place, what, value
        yield place, "too many", valid * _TOO_MANY
        yield f"{place}[0]", "null", [None]
        for within, what, value in _wrong_values(inner, valid[0], f"{place}[0]"):
            yield within, what, [value]
    elif dataclasses.is_dataclass(hint):
        for what, value in _NO_OBJECTS[1:]:
            yield place, what, value
        yield from _wrong_in(typing.cast(type, hint), valid, place)
    else:
        for what, value in _WRONG[hint]:
            yield place, what, value
        if place in WORDS:
            yield place, "another word", "other"


_NO_OBJECTS: list[tuple[str, Any]] = [
    ("null", None),
    ("a list", []),
    ("a word", "word"),
    ("a number", 7),
    ("true", True),
]
_WRONG: dict[Any, list[tuple[str, Any]]] = {
    str: [
        ("a number", 7),
        ("a list", []),
        ("an object", {}),
        ("true", True),
        ("a NUL", "wo\0rd"),
        ("half a pair", "wo\ud800rd"),
        ("too long", "x" * _TOO_LONG),
    ],
    int: [
        ("a word", "7"),
        ("true", True),
        ("a fraction", 7.5),
        ("a list", []),
        ("too small", -1),
        ("too large", 10**18),
        ("far too large", 10**30),
    ],
    bool: [("a word", "yes"), ("a number", 1), ("a list", []), ("an object", {})],
}
# Without these a part says nothing. Anything else may be missing: older agents do not send it.
_REQUIRED = {
    DescribedDisk: {"number", "key", "capacity_bytes"},
    DescribedCore: {"name", "fingerprint"},
}


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _main(hint: Any) -> Any:
    """Return what a field holds when it holds something."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    is_union = NoneType in typing.get_args(hint)
    return kinds[0] if is_union else hint
