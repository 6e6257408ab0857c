"""LitServe as its manual has it: `python -m benchmarks.contenders.lit --port 8000`."""

import os
from argparse import ArgumentParser

import litserve
from fastapi import Request, Response

from benchmarks.contenders.bare import THREADS, Bare
from tagmask.cores import cores


class Api(litserve.LitAPI):  # type: ignore[misc]
    """A form with the file `image` in, an image out, in processes of LitServe's, each one photo at a time."""

    def setup(self, device: str) -> None:
        self._network = Bare.from_environment()

    def decode_request(self, request: Request) -> bytes:  # by this type LitServe passes the form
        return bytes(request["image"].file.read())

    def predict(self, photo: bytes) -> bytes:
        return self._network.segment(photo)

    def encode_response(self, mask: bytes) -> Response:
        return Response(mask, media_type="image/png")


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = litserve.LitServer(
        Api(api_path="/segment"),
        accelerator="cpu",
        workers_per_device=cores() if os.environ[THREADS] == "1" else 1,
        healthcheck_path="/readyz",
    )
    server.run(host="127.0.0.1", port=parser.parse_args().port, generate_client_file=False)
