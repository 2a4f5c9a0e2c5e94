"""How a caller says who it is, as the schema tells it."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from usage.api.permissions import NeedsScope
from usage.api.values import Schema


class _OfScopes(OpenApiAuthenticationExtension):
    """Any of the scopes that an endpoint takes is enough, so each is a way in of its own."""

    name: str

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[Schema]:
        [permission] = auto_schema.view.get_permissions()
        assert isinstance(permission, NeedsScope)  # noqa: S101 - or nobody may ask
        return [{self.name: [scope]} for scope in permission.needed(auto_schema.method)]


class Token(_OfScopes):
    target_class = "usage.api.authentication.KeyAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token KEY`, with a key that `manage.py make_token` has shown.",
        }


class Session(_OfScopes):
    target_class = "usage.api.authentication.PersonAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The session of a person who signed in at `/login/`. Staff has every "
            "scope, others have `usage:read:own`. A POST also needs the CSRF token of the session "
            "in the header `X-CSRFToken`.",
        }
