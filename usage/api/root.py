"""The root of the API, which lists its endpoints."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse
from django.urls import get_resolver, reverse
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from usage.api import responses, shapes
from usage.api.endpoint import Endpoint, refuse_parameters


class Root(Endpoint):
    """The endpoints of the API. The list holds no data, so everybody may read it."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    def get(self, request: Request) -> HttpResponse:
        refuse_parameters(request)
        return responses.page({"endpoints": list(endpoint_lines())})


def endpoint_lines() -> Iterator[shapes.EndpointLine]:
    """Yield every endpoint, in the order of the addresses."""
    root = reverse("api:root")
    _, resolver = get_resolver().namespace_dict["api"]
    for pattern in resolver.url_patterns:
        view: Any = pattern.callback
        methods = [name.upper() for name in ("get", "post") if hasattr(view.view_class, name)]
        summary = re.split(r"(?<=\.)\s", inspect.getdoc(view.view_class) or "")[0]
        is_file = view.view_initkwargs.get("is_file", False)
        yield {
            "path": root + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern)),
            "methods": methods,
            "description": f"{summary.removesuffix('.')}, as CSV." if is_file else summary,
        }
