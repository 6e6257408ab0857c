"""The same tagged photos in every layout that can be read."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from training.datasets import Format

Tags = Mapping[str, tuple[str, ...]]
"""Sorted tags by the name of a photo, "a.png"."""

Paint = Callable[..., Path]

YOLO = ["dog", "cat", "owl"]
"""Names of class numbers 0 to 2."""


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def coco(tags: Tags) -> dict[str, Any]:
    names = sorted({tag for its in tags.values() for tag in its})
    pairs = [(image, tag) for image, its in enumerate(tags.values(), start=10) for tag in its]
    return {
        "info": {"year": 2024},
        "images": [{"id": image, "file_name": name, "width": 12} for image, name in enumerate(tags, start=10)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": names.index(tag) + 3, "segmentation": [[0, 0, 4, 0, 4, 4]]}
            for number, (image, tag) in enumerate(pairs)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=3)],
    }


def datumaro(tags: Tags) -> dict[str, Any]:
    names = sorted({tag for its in tags.values() for tag in its})
    return {
        "dm_format_version": "1.0",
        "categories": {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in names]}},
        "items": [
            {
                "id": Path(name).stem,
                "annotations": [{"type": "label", "label_id": names.index(tag)} for tag in its],
                "image": {"path": name, "size": [8, 12]},
            }
            for name, its in tags.items()
        ],
    }


def label_studio(tags: Tags) -> list[dict[str, Any]]:
    def chosen(names: tuple[str, ...]) -> dict[str, Any]:
        return {"type": "choices", "from_name": "tags", "to_name": "image", "value": {"choices": list(names)}}

    return [
        {
            "id": number,
            "annotations": [{"id": 1, "was_cancelled": False, "result": [chosen(its)] if its else []}],
            "data": {"image": f"/data/upload/7/{name}"},
        }
        for number, (name, its) in enumerate(tags.items())
    ]


def cvat(tags: Tags) -> str:
    images = ""
    for number, (name, its) in enumerate(tags.items()):
        inner = "".join(f"<tag label={quoteattr(tag)} source='manual'></tag>\n" for tag in its)
        images += f'<image id="{number}" name={quoteattr(name)} width="12" height="8">\n{inner}</image>\n'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{images}</annotations>\n'


def write(root: Path, form: Format, tags: Tags, paint: Paint) -> Path:
    """Write the data set into `root` and give what is to be loaded."""
    folder = {
        "voc": "JPEGImages",
        "datumaro": "images/train",
        "coco": "train",
        "cvat": "images",
        "table": "images",
        "yolo": "images/train",
    }
    for seed, (name, its) in enumerate(sorted(tags.items())):
        photo = paint(root / folder.get(form, "") / name, seed=seed)
        if form == "folders":
            (root / its[0]).mkdir(exist_ok=True)
            photo.rename(root / its[0] / name)
        elif form == "voc":
            objects = "".join(f"<object><name>{tag}</name></object>" for tag in its)
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{photo.stem}.xml").write_text(f"<annotation>{objects}</annotation>")
        elif form == "yolo":
            lines = "".join(f"{YOLO.index(tag)} 0.5 0.5 0.2 0.2\n" for tag in its)
            (root / "labels/train").mkdir(parents=True, exist_ok=True)
            (root / "labels/train" / f"{photo.stem}.txt").write_text(lines)
        elif form == "samples":
            sha = sha256(photo.read_bytes()).hexdigest()
            write_json(root / sha[:2] / f"{sha}.json", {"image": f"{sha}.png", "tags": its})
            photo.rename(root / sha[:2] / f"{sha}.png")
    if form == "table":
        (root / "tags.csv").write_text(
            "image,tags\n" + "".join(f"{name},{' '.join(its)}\n" for name, its in tags.items())
        )
    elif form == "datumaro":
        write_json(root / "annotations/train.json", datumaro(tags))
    elif form == "coco":
        write_json(root / "annotations/instances_train.json", coco(tags))
    elif form == "label-studio":
        write_json(root / "project-7.json", label_studio(tags))
    elif form == "cvat":
        (root / "annotations.xml").write_text(cvat(tags))
    elif form == "yolo":
        (root / "data.yaml").write_text(json.dumps({"names": YOLO}))
    return root
