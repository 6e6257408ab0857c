"""FastAPI as its manual has it: `uvicorn benchmarks.contenders.fast:app`."""

from fastapi import FastAPI, Response, UploadFile

from benchmarks.contenders.bare import Bare

app = FastAPI()
network = Bare.from_environment()


@app.get("/readyz")
def readyz() -> None:
    """The network is loaded."""


@app.post("/segment")
def segment(image: UploadFile) -> Response:
    """The mask of a photo; FastAPI calls this in a thread."""
    return Response(network.segment(image.file.read()), media_type="image/png")
