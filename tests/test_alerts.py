"""The Prometheus alerts of docs/alerts.yaml: on metrics that there are, and each fires when it should and not before."""

import re
import shutil
import subprocess
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT

from modeler.service.telemetry import Metrics

ALERTS = ROOT / "docs" / "alerts.yaml"
PREDICT = 'bentoml_service_request_total{job="predictions", instance="a", service_name="orders", endpoint="/predict", '
SECONDS = 'bentoml_service_request_duration_seconds_bucket{service_name="orders", endpoint="/predict", '
SINCE, OTHER = (f'bentoml_service_model_since_timestamp_seconds{{job="predictions", model="orders:{n}"}}' for n in (1, 2))
WARNINGS = 'bentoml_service_prediction_warnings_total{job="predictions", model="orders:1", kind="outside_range"}'
DROPPED = 'bentoml_service_prediction_log_lines_total{instance="a", outcome="dropped"}'
OK, FAULT, REFUSED = (f'{PREDICT}http_response_code="{status}"}}' for status in (200, 503, 400))
HOURLY = ("ValuesUnlikeTraining", "ModelOld")  # a step of their series is an hour, of the others a minute
CASES = {  # the series that fire an alert, those that do not, and the step that is looked at
    "ServiceDown": ({'up{job="predictions", instance="a"}': "0x10"}, {'up{job="predictions", instance="a"}': "1x10"}, 5),
    "RequestsFail": ({OK: "0+95x30", FAULT: "0+5x30"}, {OK: "0+1000x30", FAULT: "0+5x30"}, 20),
    "RequestsRefused": ({OK: "0+60x60", REFUSED: "0+40x60"}, {OK: "0+90x60", REFUSED: "0+10x60"}, 50),
    "AnswersSlow": (
        {f'{SECONDS}le="0.25"}}': "0+90x40", f'{SECONDS}le="1"}}': "0+100x40", f'{SECONDS}le="+Inf"}}': "0+100x40"},
        {f'{SECONDS}le="0.1"}}': "0+100x40", f'{SECONDS}le="+Inf"}}': "0+100x40"},
        30,
    ),
    "ValuesUnlikeTraining": (
        {OK: "0+100x190", WARNINGS: "0+5x168 840+40x22"},
        {OK: "0+100x168 16800+400x22", WARNINGS: "0+5x168 840+20x22"},
        182,
    ),
    "PredictionLogDrops": ({DROPPED: "0+10x40"}, {DROPPED: "7x40"}, 30),
    "ModelsDiffer": ({SINCE: "1x90", OTHER: "2x90"}, {SINCE: "1x90", OTHER: "_x60 2x30"}, 70),
    "ModelOld": ({SINCE: "0x730"}, {SINCE: "0x730"}, (721, 719)),
}  # fmt: skip


@pytest.mark.medium
def test_alerts_are_on_metrics_that_the_service_has():
    predictor = SimpleNamespace(tag="made:1", since=datetime.now(timezone.utc))
    metrics = Metrics("made", "1")
    metrics.count_request("/predict", 200, 0.1)
    exposed = metrics.expose(predictor).decode()
    named = set(re.findall(r"bentoml_service_\w+", ALERTS.read_text()))
    assert len(named) == 5
    assert all(re.search(rf"^(# TYPE )?{name}[ {{]", exposed, re.M) for name in named), named
    assert {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]} == {*CASES}


@pytest.mark.medium
def test_each_alert_fires_when_it_should_and_not_before(tmp_path):
    if not (promtool := shutil.which("promtool")):
        pytest.skip("needs promtool, of Debian's package prometheus")
    for hourly, unit in ((False, "m"), (True, "h")):
        chosen = {name: case for name, case in CASES.items() if (name in HOURLY) == hourly}
        content = {"rule_files": [str(ALERTS)], "evaluation_interval": f"1{unit}", "tests": list_tests(chosen, unit)}
        (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content, width=1000))
        for words in (["check", "rules", ALERTS], ["test", "rules", tmp_path / "tests.yaml"]):
            done = subprocess.run([promtool, *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


def list_tests(cases, unit):
    """promtool's unit tests of alerts: each with series that fire it and with others."""
    tests = []
    for name, (fires, quiet, step) in cases.items():
        steps = step if isinstance(step, tuple) else (step, step)
        for series, at, found in zip((fires, quiet), steps, (1, 0)):
            asked = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
            samples = [{"labels": "{}", "value": found}]
            tests.append({
                "interval": f"1{unit}",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": asked, "eval_time": f"{at}{unit}", "exp_samples": samples}],
            })  # fmt: skip
    return tests
