"""The Helm chart, and what it renders."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tagmask"
MANIFESTS = ROOT / "deploy" / "kubernetes.yaml"
OBJECT_STORAGE = ROOT / "deploy" / "object-storage.yaml"
"""Values for a store, an inbox and photos in a bucket."""

Manifest = dict[str, Any]


def render(values: dict[str, Any] | None = None) -> list[Manifest]:
    """What Helm makes of the chart with `values`; skips the test where Helm's library is not installed."""
    chart = pytest.importorskip("helm_python.chart", reason="helm-python-sdk, of tests/consumers.txt, is not installed")
    with chart.Chart.load(CHART) as loaded:
        rendered = loaded.render(values, name="tagmask", namespace="tagmask")
    return [manifest for text in rendered.values() for manifest in yaml.safe_load_all(text) if manifest]


def object_storage() -> dict[str, Any]:
    """The values for a bucket."""
    return dict(yaml.safe_load(OBJECT_STORAGE.read_text(encoding="utf-8")))


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """The manifests by kind and name, which must be different."""
    named = {(each["kind"], each["metadata"]["name"]): each for each in manifests}
    assert len(named) == len(manifests)
    return named


def pods(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """PodSpecs by the name of their Deployment."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"
    }


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Environment variables, with their value or their source."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
