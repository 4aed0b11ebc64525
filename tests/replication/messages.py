"""Every message between two cores, made up from its type: valid ones, and wrong ones."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from agent.client import MachineDescription
from console.identity import this_core
from replication.peers import wire
from tests.agent.wrong_descriptions import wrong_descriptions
from tests.factories import DESCRIPTION, NOON

MESSAGES = sorted(
    (
        kind
        for kind in vars(wire).values()
        if isinstance(kind, type)
        and issubclass(kind, wire.Message)
        and kind is not wire.Message
        and not kind.__name__.startswith("_")
    ),
    key=lambda kind: kind.__name__,
)
# In these what an entry says is left out when it is wrong; see `PeerStatus`.
FORGIVING = ("paused_machine_ids[0]", "ownership[0]", "fellows[0]", "behind.")
_SEPARATORS = "/?#@[]\\"
_DESCRIPTIONS = (MachineDescription(), MachineDescription.from_json(DESCRIPTION))


@dataclass(frozen=True)
class Wrong:
    """A message with one wrong field."""

    kind: type[wire.Message]
    # The field from the outermost object on.
    field: str
    what: str
    message: Any

    def __str__(self) -> str:
        return f"{self.kind.__name__}-{self.field}-{self.what}"

    @property
    def is_forgiven(self) -> bool:
        return self.kind is wire.PeerStatus and self.field.startswith(FORGIVING)


def messages(kind: type[wire.Message]) -> st.SearchStrategy[wire.Message]:
    """Valid messages of a kind."""
    if kind is wire.OwnershipAnswer:
        return st.builds(wire.OwnershipAnswer, ownership=st.none() | messages(wire.Ownership))
    if kind is wire.MachineAnswer:
        away = st.builds(
            wire.MachineAnswer, address=st.none(), text=_text(inspect.StrType(), "text")
        )
        return away | st.builds(wire.MachineAnswer, address=messages(wire.MachineAddress))
    fields = {field.name: _values(field.type, field.name) for field in _fields(kind)}
    return st.builds(kind, **fields)


def _values(info: inspect.Type, name: str) -> st.SearchStrategy[Any]:
    match info:
        case inspect.UnionType():
            return st.one_of([_values(one, name) for one in info.types])
        case inspect.StrType():
            return _text(info, name)
        case inspect.IntType():
            return st.integers(info.ge, info.le)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.UUIDType():
            return st.uuids()
        case inspect.DateTimeType():
            return st.integers(0, 10**15).map(lambda number: NOON + timedelta(microseconds=number))
        case inspect.VarTupleType():
            return st.lists(_values(info.item_type, name), max_size=3).map(tuple)
        case inspect.DictType():
            keys, values = _values(info.key_type, ""), _values(info.value_type, name)
            return st.dictionaries(keys, values, max_size=3)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.StructType():
            return messages(info.cls)
        case inspect.CustomType():
            return st.sampled_from(_DESCRIPTIONS)
    raise AssertionError(f"no values for {info}")


def _text(info: inspect.StrType, name: str) -> st.SearchStrategy[str]:
    if name.endswith("_pem"):
        return st.just(this_core().certificate_pem)
    if _is_hexadecimal(info):
        return st.text("0123456789abcdef", min_size=info.min_length, max_size=info.max_length)
    letters = st.characters(
        exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters=_SEPARATORS
    )
    return st.text(letters, min_size=info.min_length or 0, max_size=min(info.max_length or 20, 20))


def example(kind: type[wire.Message]) -> Any:
    """The JSON of a message that says all it can."""
    if kind is wire.OwnershipAnswer:
        return example(wire.Ownership)
    if kind is wire.MachineAnswer:
        return {"answers": True, **example(wire.MachineAddress)}
    return {field.encode_name: _example(field.type, field.name) for field in _fields(kind)}


def _example(info: inspect.Type, name: str) -> Any:
    match info:
        case inspect.UnionType():
            return _example(_main(info), name)
        case inspect.StrType():
            # A delegation belongs to one machine and two cores; none is as valid.
            word = "" if name == "delegation_pem" else "word"
            if _is_hexadecimal(info):
                return "0f" * (info.max_length // 2)
            return this_core().certificate_pem if name.endswith("certificate_pem") else word
        case inspect.IntType():
            return 7
        case inspect.BoolType():
            return False
        case inspect.UUIDType():
            return str(uuid.uuid4())
        case inspect.DateTimeType():
            return "2026-03-01T12:00:00+00:00"
        case inspect.VarTupleType():
            return [_example(info.item_type, name)]
        case inspect.DictType():
            return {_example(info.key_type, ""): _example(info.value_type, name)}
        case inspect.LiteralType():
            return info.values[0]
        case inspect.EnumType():
            return next(iter(info.cls)).value
        case inspect.StructType():
            return example(info.cls)
        case inspect.CustomType():
            return DESCRIPTION
    raise AssertionError(f"no example of {info}")


def wrong_messages(kind: type[wire.Message]) -> Iterator[Wrong]:
    """Each field of a message in turn missing, of a wrong type, too long, too large, too small."""
    info: inspect.Type
    if kind is wire.OwnershipAnswer:
        info = inspect.type_info(wire.Ownership)
    elif kind is wire.MachineAnswer:
        info = inspect.type_info(wire.MachineAddress)
        yield Wrong(kind, "answers", "a word", {**example(kind), "answers": "word"})
    else:
        info = inspect.type_info(kind)
    for field, what, message in _wrong_in(info, example(kind), ""):
        if kind is wire.OwnershipAnswer and (field, what) == ("owner_core_id", "empty"):
            continue  # It stands for nobody.
        yield Wrong(kind, field, what, message)


def _wrong_in(info: inspect.Type, valid: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """Yield place, kind and value of everything that may not stand where `valid` does."""
    main, is_nullable = _main(info), _allows(info, inspect.NoneType)
    for what, value in _WRONG_OF[type(main)](main):
        if value is not None or not is_nullable:
            yield name, what, value
    match main:
        case inspect.StructType():
            for field in main.fields:
                within = f"{name}.{field.name}" if name else field.name
                if field.required:
                    rest = {key: value for key, value in valid.items() if key != field.encode_name}
                    yield within, "missing", rest
                for place, what, value in _wrong_in(field.type, valid[field.encode_name], within):
                    yield place, what, {**valid, field.encode_name: value}
        case inspect.VarTupleType():
            for place, what, value in _wrong_in(main.item_type, valid[0], f"{name}[0]"):
                yield place, what, [value]
            yield name, "too many", [valid[0]] * (main.max_length + 1)
        case inspect.DictType():
            ((key, valid_value),) = valid.items()
            for place, what, value in _wrong_in(main.value_type, valid_value, f"{name}."):
                yield place, what, {key: value}


def _wrong_texts(info: inspect.StrType) -> Iterator[tuple[str, Any]]:
    yield from [("a number", 7), ("a list", []), ("an object", {}), ("true", True), ("null", None)]
    yield "a NUL", "wo\0rd"
    yield "half a pair", "wo\ud800rd"
    yield "too long", "x" * (info.max_length + 1)
    if info.min_length:
        yield "empty", ""
    if _is_hexadecimal(info):
        yield "too short", "0" * (info.min_length - 1)
        yield "no hexadecimal digits", "g" * info.max_length
        yield "capitals", "A" * info.max_length
    if info.max_length <= 260:
        yield "two lines", "wo\nrd"


def _wrong_numbers(info: inspect.IntType) -> Iterator[tuple[str, Any]]:
    yield from [
        ("a word", "7"),
        ("true", True),
        ("a fraction", 7.5),
        ("null", None),
        ("a list", []),
    ]
    yield "too small", info.ge - 1
    yield "too large", info.le + 1
    yield "far too large", 10**30


def _always(*wrong: tuple[str, Any]) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    return lambda info: iter(wrong)


_WRONG_OF: dict[type, Callable[[Any], Iterator[tuple[str, Any]]]] = {
    inspect.StrType: _wrong_texts,
    inspect.IntType: _wrong_numbers,
    inspect.BoolType: _always(("a word", "yes"), ("a number", 1), ("null", None), ("a list", [])),
    inspect.UUIDType: _always(("a word", "7"), ("a number", 7), ("null", None), ("empty", "")),
    inspect.DateTimeType: _always(
        ("without a zone", "2026-03-01T12:00:00"),
        ("a number", 1_772_366_400),
        ("a word", "noon"),
        ("too early", "0001-01-01T00:00:00+23:00"),
        ("too late", "9999-12-31T23:00:00-23:00"),
    ),
    inspect.VarTupleType: _always(("an object", {}), ("a word", "word"), ("null", None)),
    inspect.DictType: _always(("a list", []), ("a word", "word"), ("null", None)),
    inspect.LiteralType: _always(("another word", "other"), ("a number", 1), ("null", None)),
    inspect.EnumType: _always(("another word", "other"), ("a number", 1), ("null", None)),
    inspect.StructType: _always(("a list", []), ("a word", "word"), ("null", None)),
    inspect.CustomType: _always(
        ("a list", []),
        ("a word", "word"),
        ("null", None),
        *(
            (f"{field} of it", next(group).value)
            for field, group in groupby(wrong_descriptions(), key=lambda wrong: wrong.field)
            if field != "the whole"
        ),
    ),
}


def _is_hexadecimal(info: inspect.StrType) -> bool:
    return info.pattern == wire.HEXADECIMAL


def _fields(kind: type[wire.Message]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _main(info: inspect.Type) -> inspect.Type:
    """Return what a field holds when it holds something."""
    if not isinstance(info, inspect.UnionType):
        return info
    return next(one for one in info.types if not isinstance(one, inspect.NoneType))


def _allows(info: inspect.Type, kind: type) -> bool:
    return isinstance(info, inspect.UnionType) and any(isinstance(one, kind) for one in info.types)
