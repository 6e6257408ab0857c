"""The REST interface, as one ASGI application."""
