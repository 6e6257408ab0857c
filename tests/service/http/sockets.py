"""Requests that no HTTP client would send."""

import http.client
import socket

import httpx
import pytest


def connect(client: httpx.Client, timeout: float = 10) -> socket.socket:
    """A connection to the client's server."""
    assert client.base_url.port is not None
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=timeout)


def connect_from(client: httpx.Client, address: str) -> socket.socket:
    """A connection from another address of this machine."""
    try:
        return socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10, source_address=(address, 0))
    except OSError:
        pytest.skip("this machine has one loopback address")


def post(path: str, **headers: str) -> bytes:
    """A request without its body; `Content_Type` stands for Content-Type."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{''.join(lines)}\r\n".encode()


def receive(connection: socket.socket, method: str = "GET") -> httpx.Response:
    """The answer that comes on this connection."""
    with http.client.HTTPResponse(connection, method=method) as answer:
        answer.begin()
        content = answer.read()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=content)


def exchange(client: httpx.Client, data: bytes, method: str = "GET") -> httpx.Response:
    """The answer to `data` on a connection of its own."""
    with connect(client) as connection:
        connection.sendall(data)
        return receive(connection, method)
