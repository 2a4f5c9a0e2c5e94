"""The schema of an endpoint, made from its parameters, response types and permission."""

import inspect
import re
from enum import Enum
from typing import Any, get_type_hints

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

from usage.api.endpoint import Endpoint
from usage.api.error_types import Error
from usage.api.list_endpoint import ListEndpoint
from usage.api.permissions import NeedsScope
from usage.api.schema import security  # noqa: F401 - the import registers it
from usage.api.schema.hints import enum_of, object_of, schema_of
from usage.api.schema.operations import Operation, operation_of
from usage.api.schema.refusals import Refusal
from usage.api.schema.response_schemas import refused
from usage.lists.bounds import Schema


class EndpointSchema(AutoSchema):
    """The DEFAULT_SCHEMA_CLASS of REST_FRAMEWORK."""

    view: Endpoint  # type: ignore[override]

    def get_operation(self, *arguments: Any, **keywords: Any) -> Schema | None:
        operation: Schema | None = super().get_operation(*arguments, **keywords)
        if operation is not None:
            operation["responses"] = self._responses()
        return operation

    @property
    def operation(self) -> Operation:
        return operation_of(self.view, self.method, self.named)

    def get_operation_id(self) -> str:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self.view).__name__).lower()
        ending = "_csv" if self._is_file else ""
        return f"{self.method.lower()}_{name}{ending}"

    @property
    def _is_file(self) -> bool:
        return isinstance(self.view, ListEndpoint) and self.view.is_file

    def get_summary(self) -> str:
        summary = self._sentences()[0].removesuffix(".")
        return f"{summary}, as CSV" if self._is_file else summary

    def get_description(self) -> str:  # type: ignore[override]
        _, *more = self._sentences()
        if isinstance(self.view, ListEndpoint) and not self.view.is_file:
            more.append("`format=csv` or `Accept: text/csv` returns the CSV of the path with .csv.")
        [permission] = self.view.get_permissions()
        if isinstance(permission, NeedsScope):
            scopes = " or ".join(f"`{scope}`" for scope in permission.needed(self.method))
            more.append(f"Needs the scope {scopes}.")
        return " ".join(more)

    def get_tags(self) -> list[str]:
        return [self.operation.tag]

    def get_request_serializer(self) -> None:
        return None

    def get_response_serializers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return nothing: get_operation adds the responses."""
        return {}

    def get_override_parameters(self) -> list[Any]:
        return self.operation.parameters

    def named(self, shape: type) -> Schema:
        """Return the reference to the schema of a TypedDict or an enum, and register it as a
        component."""
        component = ResolvedComponent(
            name=shape.__qualname__.replace(".", ""), type=ResolvedComponent.SCHEMA, object=shape
        )
        if component not in self.registry and issubclass(shape, Enum):
            component.schema = enum_of(shape)
            self.registry.register(component)
        elif component not in self.registry:
            self.registry.register(component)
            hints = get_type_hints(shape, include_extras=True)
            component.schema = object_of(
                {name: schema_of(hint, self.named) for name, hint in hints.items()},
                inspect.cleandoc(str(shape.__doc__)),
            )
        reference: Schema = self.registry[component].ref
        return reference

    def _sentences(self) -> list[str]:
        """Return the sentences of the docstring of the method, or of the endpoint without one."""
        doc = getattr(self.view, self.method.lower()).__doc__ or type(self.view).__doc__
        return re.split(r"(?<=\.)\s+", " ".join(str(doc).split()))

    def _responses(self) -> Schema:
        operation = self.operation
        described = dict(operation.responses) | {
            refusal.status: self._refusal(refusal) for refusal in operation.refusals
        }
        return {str(status): described[status] for status in sorted(described)}

    def _refusal(self, refusal: Refusal) -> Schema:
        """Return the reference to a refusal, a component because many endpoints share it."""
        component = ResolvedComponent(
            name=refusal.name,
            type=ResolvedComponent.RESPONSE,
            object=Refusal,
            schema=refused(refusal, self.named(Error)),
        )
        self.registry.register_on_missing(component)
        reference: Schema = component.ref
        return reference
