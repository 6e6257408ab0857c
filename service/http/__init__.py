"""The REST interface, as one ASGI application."""

VERSION = "1.0.0"
"""Of the interface."""
