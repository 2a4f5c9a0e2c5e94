"""Authentication in the schema."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from usage.lists.bounds import Schema


class Token(OpenApiAuthenticationExtension):
    target_class = "usage.api.authentication.KeyAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer KEY`, with a key that `manage.py make_token` "
            "has shown. `Authorization: Token KEY` has the same meaning.",
        }


class Session(OpenApiAuthenticationExtension):
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
