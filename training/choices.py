"""Names that settings and options choose from, apart from what they name, so that `--help` loads none of it."""

from pathlib import Path
from typing import Any, Literal, get_args

from tagmask.inputs import local_path

Format = Literal["samples", "voc", "table", "datumaro", "coco", "label-studio", "cvat", "yolo", "folders"]
"""A layout of data sets that can be read; `training.datasets.layouts` has its reader."""

OutputFormat = Literal["voc", "coco", "yolo", "label-studio", "cvat", "datumaro"]
"""A layout of data sets that can be written; `training.datasets.writing` has its writer."""

Preset = Literal["fast", "default", "best"]
"""A trade-off between training time and accuracy; `training.config` has its settings."""


def names(choices: Any) -> str:
    """The names of a Literal, for the help of an option: as a type without blanks they would be broken inside words."""
    return ", ".join(get_args(choices))


def weights_file(setting: str | None) -> Path | None:
    """The file that the setting `weights` names, if it is neither unset, "random" nor "pretrained"."""
    return local_path(setting) if setting and setting not in ("random", "pretrained") else None
