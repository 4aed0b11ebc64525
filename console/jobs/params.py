"""Turn a workflow's parameters into JSON and back: IDs and choices only, no rows."""

import dataclasses
import datetime
import types
import typing
from typing import Any
from uuid import UUID

_PLAIN = (str, int, float, bool, type(None))


def params_to_json(params: Any) -> dict[str, Any]:
    """Return a params dataclass as a JSON object.

    Raises:
        TypeError: it holds something other than IDs and choices.
    """
    return {
        field.name: _to_json(getattr(params, field.name)) for field in dataclasses.fields(params)
    }


def params_from_json(params_type: type, data: dict[str, Any]) -> Any:
    """Return the dataclass that `params_to_json` was given."""
    hints = typing.get_type_hints(params_type)
    return params_type(**{name: _from_json(hints[name], value) for name, value in data.items()})


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return params_to_json(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, _PLAIN):
        # A Django choice is a subclass of str; JSON needs the plain string.
        return str(value) if isinstance(value, str) else value
    raise TypeError(f"params may only hold IDs and choices, not {type(value).__name__}")


def _from_json(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        wanted = [choice for choice in typing.get_args(hint) if choice is not type(None)]
        return _from_json(wanted[0], value) if len(wanted) == 1 else value
    if origin in (list, tuple):
        item_hint = (*typing.get_args(hint), Any)[0]
        return origin(_from_json(item_hint, item) for item in value)
    if origin is dict:
        item_hint = (*typing.get_args(hint), Any, Any)[1]
        return {key: _from_json(item_hint, item) for key, item in value.items()}
    if hint is UUID:
        return UUID(value)
    if hint is datetime.datetime:
        return datetime.datetime.fromisoformat(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return params_from_json(hint, value)
    if isinstance(hint, type) and issubclass(hint, str):
        return hint(value)
    return value
