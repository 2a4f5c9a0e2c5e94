"""The description of the API, for programs and for people. It holds no data, so it is public."""

from functools import lru_cache

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.request import Request

from usage.api.endpoint import Endpoint, refuse_parameters


class Description(Endpoint):
    """This description of the API. JSON, or YAML if `Accept` names application/yaml."""

    authentication_classes = ()
    permission_classes = [AllowAny]
    content_negotiation_class = DefaultContentNegotiation
    renderer_classes = [OpenApiJsonRenderer2, OpenApiYamlRenderer2]

    def get(self, request: Request) -> HttpResponse:
        refuse_parameters(request)
        media_type = request.accepted_renderer.media_type
        return HttpResponse(written(media_type), content_type=media_type)


@lru_cache
def written(media_type: str) -> str | bytes:
    """Return the description. It is cached, because it is slow to make and is the same for every
    request."""
    [renderer] = [each for each in Description.renderer_classes if each.media_type == media_type]
    return renderer().render(SchemaGenerator().get_schema(public=True), renderer_context={})


@extend_schema(exclude=True)
class Docs(SpectacularSwaggerSplitView):
    """A page on which people read the description and send requests."""

    authentication_classes = ()
    permission_classes = [AllowAny]
    content_negotiation_class = DefaultContentNegotiation
    renderer_classes = [TemplateHTMLRenderer]
    # DRF cannot render the metadata of OPTIONS with this template.
    http_method_names = ["get", "head"]
    url_name = "api:schema"
    template_name = "usage/docs.html"
