"""Settings of the service, one environment variable each, with their defaults.

TAGMASK_MODEL=model.onnx TAGMASK_MAX_PIXELS=20000000 bentoml serve
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tagmask.cores import cores
from tagmask.errors import ConfigError, StartError
from tagmask.inputs import LOW_CONFIDENCE, Location, local_path, location

PREFIX = "TAGMASK_"

_Place = TypeVar("_Place", bound=Location)


class Settings(BaseSettings):
    """Read from `TAGMASK_<NAME>`. Lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, enable_decoding=False)

    model: Path | None = Field(None, description="bundle to serve; by default, the champion of the store")
    store: Location = Field(Path("store"), description="folder or URL of bundles by version, whose champion is served")
    inbox: Location | None = Field(
        None, description="folder or URL for photos of POST /v1/samples; by default, samples are off"
    )
    label_studio_files: DirectoryPath | None = Field(
        None, description="folder from which Label Studio serves photos; by default, they cannot be read"
    )
    label_studio_accepted: bool = Field(
        False, description="whether predictions that people accepted unchanged in Label Studio are corrections too"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device that runs the network")
    gpu_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="maximum bytes that the network of a worker takes of a GPU, besides what CUDA itself takes; "
        "by default, no limit",
    )
    workers: int = Field(1, ge=1, le=256, description="processes, each with its own ONNX Runtime session")
    threads: int = Field(
        default_factory=lambda: min(cores(), 4),
        ge=1,
        le=256,
        description="inference threads of a lone photo on a CPU, and fewer of each of several at once; "
        "by default, one per core, at most 4",
    )
    watch_seconds: float = Field(1.0, gt=0, le=3600, description="seconds between checks for a new champion")

    max_body_bytes: int = Field(20_000_000, ge=1, description="maximum bytes of a request, and of each photo")
    max_batch_bytes: int = Field(100_000_000, ge=1, description="maximum bytes of a batch request")
    max_files: int = Field(16, ge=1, description="maximum photos of a batch request")
    max_pixels: int = Field(50_000_000, ge=1, description="maximum pixels of a photo, checked before it is decoded")
    max_tags: int = Field(32, ge=1, description="maximum tags of a request")
    max_concurrent: int = Field(
        default_factory=cores, ge=1, le=1024, description="concurrent photos per worker; by default, one per core"
    )
    max_queued: int = Field(32, ge=0, description="waiting requests per worker; those beyond this limit get 503")
    max_seconds: float = Field(
        30.0, gt=0, description="seconds from the first byte of a request to the last of its response"
    )
    low_confidence: float = Field(
        LOW_CONFIDENCE, ge=0, le=1, description="expected IoU below which a mask has low confidence"
    )
    min_free_bytes: int = Field(1_000_000_000, ge=0, description="bytes to keep free on the disk of the inbox")

    api_keys: SecretStr = Field(
        SecretStr(""), description="keys for all operations but switching models and forgetting samples"
    )
    api_keys_file: Path | None = Field(None, description="file of such keys, one per line")
    admin_keys: SecretStr = Field(SecretStr(""), description="keys that may also switch models and forget samples")
    admin_keys_file: Path | None = Field(None, description="file of such keys, one per line")
    allow_open: bool = Field(False, description="listen beyond this machine without API keys")
    cors_origins: str = Field("", description="origins of web pages that may call the service")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="minimum level of log lines")

    @field_validator("store", "inbox", mode="before")
    @classmethod
    def _locate(cls, value: str | Path | None) -> Location | None:
        return None if value is None else _check(location, value)

    @field_validator("*")
    @classmethod
    def _refuse_urls(cls, value: Any) -> Any:
        return _check(local_path, value) if isinstance(value, Path) else value

    @property
    def max_bytes(self) -> int:
        """Maximum bytes of all requests of a worker together: a photo for each, or one batch if that is more."""
        return max(self.max_body_bytes * (self.max_concurrent + self.max_queued), self.max_batch_bytes)

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins, such as https://app.example; browsers send them without a slash at the end."""
        return tuple(origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip())


def _check(kind: Callable[[str | Path], _Place], value: str | Path) -> _Place:
    try:
        return kind(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Settings of this process. Raises StartError, naming the variable and its valid values."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise StartError(f"{name}={first.get('input')}: {first['msg']}; change or unset it") from None
