"""Alert rules and dashboard: valid, of metrics that the service has, and the rules right in their unit tests."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import service.http.app  # noqa: F401  # registers all metrics
from tests.deploy.chart import CHART, by_name, render

ALERTS = CHART / "monitoring" / "alerts.yaml"
DASHBOARD = CHART / "monitoring" / "dashboard.json"
UNIT_TESTS = Path(__file__).with_name("alerts_test.yaml")
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
QUERIES = [
    target["expr"]
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    for target in panel.get("targets", [])
]
METRIC = re.compile(r"\b(?:tagmask|process)_\w+")


def promtool(*arguments: object) -> None:
    """Run promtool, or skip the test where it is not installed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool, of the package prometheus, is not installed")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> set[str]:
    """Names of the samples that the service exports."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {family.name + suffix for family in REGISTRY.collect() for suffix in suffixes.get(family.type, [""])}


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_metrics_are_those_of_the_service(query: str):
    without_strings = re.sub(r'"[^"]*"', "", query)
    names = set(METRIC.findall(without_strings))
    assert names
    assert names <= exported()


def test_rules_pass_their_unit_tests(tmp_path: Path):
    tests = tmp_path / "alerts_test.yaml"
    tests.write_text(UNIT_TESTS.read_text(encoding="utf-8").replace("[RULES]", f"[{ALERTS}]"))
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", tests)


def test_each_rule_is_tested_to_raise_its_alert_and_not_to():
    cases = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for test in yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert set(cases) == {(rule["alert"], raised) for rule in RULES for raised in (True, False)}


def test_queries_of_the_dashboard_are_promql(tmp_path: Path):
    queries = [re.sub(r"\[\$__rate_interval\]", "[5m]", query) for query in QUERIES]
    rules = [{"record": f"panel:{index}", "expr": query} for index, query in enumerate(queries)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_chart_installs_them():
    named = by_name(render({"monitoring": {"enabled": True}}))
    assert named["PrometheusRule", "tagmask"]["spec"]["groups"][0]["rules"] == RULES
    dashboard = named["ConfigMap", "tagmask-dashboard"]["data"]["tagmask.json"]
    assert dashboard == DASHBOARD.read_text(encoding="utf-8")
