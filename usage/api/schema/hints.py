"""Types of Python as JSON schemas, with examples."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from enum import Enum
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from usage.api.bounds import Schema

BASIC: dict[type, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    date: {"type": "string", "format": "date"},
    object: {},
    UUID: {"type": "string", "format": "uuid"},
}


def schema_of(hint: Any, named: Callable[[type], Schema]) -> Schema:
    """The schema of a type; `named` gives the reference to that of a TypedDict or an enum."""
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Annotated:
            if (values := arguments[1].get("enum")) is not None:
                return named(values)
            return schema_of(arguments[0], named) | arguments[1]
        case origin if origin is UnionType:
            [told] = [each for each in arguments if each is not NoneType]
            schema = schema_of(told, named)
            return schema | {"type": [schema["type"], "null"]}
        case origin if origin is Sequence:
            return {"type": "array", "items": schema_of(arguments[0], named)}
        case origin if origin is Mapping:
            return {"type": "object", "additionalProperties": schema_of(arguments[1], named)}
    return named(hint) if is_typeddict(hint) else dict(BASIC[hint])


def object_of(properties: dict[str, Schema], description: str) -> Schema:
    """The schema of an object that has every one of these properties."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def enum_of(values: type[Enum]) -> Schema:
    """The schema of a value that is one of an enum."""
    found = [each.value for each in values]
    schema = {"type": "string", "description": cleandoc(str(values.__doc__)), "enum": found}
    if all(value.isidentifier() for value in found):
        return schema
    # Generators number a value that is no name, such as -day.
    return schema | {"x-enum-varnames": [each.name for each in values]}


def example_of(hint: Any) -> Any:
    """An example of a type: that of each of its parts."""
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        return {name: example_of(each) for name, each in hints.items()}
    inner, *rules = get_args(hint)
    if get_origin(hint) is Sequence:
        return [example_of(inner)]
    return rules[0]["examples"][0] if "examples" in rules[0] else example_of(inner)
