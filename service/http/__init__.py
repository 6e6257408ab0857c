"""The HTTP API, as one ASGI application."""

VERSION = "1.0.0"
"""Version of the HTTP API."""
