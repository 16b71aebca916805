"""What the gateway serves, described in OpenAPI 3.1 (spec.openapis.org/oas/v3.1.1)."""

from helexa.cortex.openapi.document import add_route, document

__all__ = ["add_route", "document"]
