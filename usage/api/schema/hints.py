"""JSON schemas and examples of Python types."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from enum import Enum
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from usage.lists.bounds import Schema

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
    """Return the schema of a type; `named` returns references to those of TypedDicts and enums."""
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Annotated:
            if (values := arguments[1].get("enum")) is not None:
                return named(values)
            return schema_of(arguments[0], named) | arguments[1]
        case origin if origin is UnionType:
            [value_type] = [each for each in arguments if each is not NoneType]
            schema = schema_of(value_type, named)
            return schema | {"type": [schema["type"], "null"]}
        case origin if origin is Sequence:
            return {"type": "array", "items": schema_of(arguments[0], named)}
        case origin if origin is Mapping:
            return {"type": "object", "additionalProperties": schema_of(arguments[1], named)}
    return named(hint) if is_typeddict(hint) else dict(BASIC[hint])


def object_of(properties: dict[str, Schema], description: str) -> Schema:
    """Return the schema of an object that has all of these properties."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def enum_of(values: type[Enum]) -> Schema:
    """Return the schema of a value of an enum."""
    found = [each.value for each in values]
    schema = {"type": "string", "description": cleandoc(str(values.__doc__)), "enum": found}
    if all(value.isidentifier() for value in found):
        return schema
    # A generator would number the name of a value that is no identifier, such as -day.
    return schema | {"x-enum-varnames": [each.name for each in values]}


def example_of(hint: Any) -> Any:
    """Return an example of a type, made from the examples of its parts."""
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        return {name: example_of(each) for name, each in hints.items()}
    inner, *rules = get_args(hint)
    if get_origin(hint) is Sequence:
        return [example_of(inner)]
    return rules[0]["examples"][0] if "examples" in rules[0] else example_of(inner)
