"""Every setting of the service: an environment variable each, with its default.

TAGMASK_MODEL=model.onnx TAGMASK_MAX_PIXELS=20000000 bentoml serve
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tagmask.cores import cores
from tagmask.errors import StartError

PREFIX = "TAGMASK_"


class Settings(BaseSettings):
    """Read from `TAGMASK_<NAME>`. Lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, enable_decoding=False)

    model: Path | None = Field(None, description="bundle to serve; left out, the store's champion is served")
    store: Path = Field(Path("store"), description="folder of bundles by version, whose champion is served")
    inbox: Path | None = Field(None, description="folder for the photos of POST /v1/samples; left out, they are off")
    label_studio_files: DirectoryPath | None = Field(
        None, description="folder from which Label Studio serves photos; left out, those are not read"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network runs")
    workers: int = Field(1, ge=1, le=256, description="processes, each with a session of its own")
    threads: int = Field(
        default_factory=lambda: min(cores(), 4),
        ge=1,
        le=256,
        description="threads of inference on a CPU, which the photos in work share; the cores by default, at most 4",
    )
    watch_seconds: float = Field(1.0, gt=0, le=3600, description="how often the champion pointer is looked at")

    max_body_bytes: int = Field(20_000_000, ge=1, description="bytes of a request, and of a photo")
    max_batch_bytes: int = Field(100_000_000, ge=1, description="bytes of a batch request")
    max_files: int = Field(16, ge=1, description="photos of a batch request")
    max_pixels: int = Field(50_000_000, ge=1, description="pixels of a photo, judged before it is decoded")
    max_tags: int = Field(32, ge=1, description="tags of a request")
    max_concurrent: int = Field(
        default_factory=cores, ge=1, le=1024, description="photos in work at a time, a worker; the cores by default"
    )
    max_queued: int = Field(32, ge=0, description="requests that wait beside those, a worker; more are answered 503")
    max_seconds: float = Field(30.0, gt=0, description="seconds from a request's first byte to its answer")
    min_free_bytes: int = Field(
        1_000_000_000, ge=0, description="bytes that samples must leave free on the inbox's disk"
    )

    api_keys: SecretStr = Field(SecretStr(""), description="keys that may use all but probes and pages")
    api_keys_file: Path | None = Field(None, description="file with such keys, one a line")
    admin_keys: SecretStr = Field(SecretStr(""), description="keys that may also switch models")
    admin_keys_file: Path | None = Field(None, description="file with such keys, one a line")
    allow_open: bool = Field(False, description="listen beyond this machine without any key")
    cors_origins: str = Field("", description="origins of web pages that may call the service")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins, such as https://app.example."""
        return _split(self.cors_origins)


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Settings of this process. Raises StartError, naming the variable and what it may be."""
    try:
        return Settings()
    except ValidationError as fault:
        first = fault.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        given = first.get("input")
        raise StartError(f"{name}={given}: {first['msg']}; change or unset it") from None


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
