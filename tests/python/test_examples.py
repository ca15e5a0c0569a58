"""The examples for schedulers and monitoring hold against the code: configurations load, units verify, rules name what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from evbackup import _config, _metrics
from evbackup.cli import cli
from support import ROOT

EXAMPLES = ROOT / "examples"


def documents(path: str) -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / path).read_text()))


def configurations() -> dict[str, str]:
    """The configurations in the examples, and those in the pages."""
    found = {"systemd": (EXAMPLES / "systemd" / "first.toml").read_text()}
    (compose,) = documents("compose/compose.yaml")
    found["compose"] = compose["configs"]["evbackup"]["content"]
    found["kubernetes"] = documents("kubernetes/cronjob.yaml")[0]["data"]["node.toml"]
    for page in (ROOT / "docs").rglob("*.md"):
        for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            found[f"{page.name}-{number}"] = text
    return found


@pytest.mark.parametrize(("name", "text"), configurations().items(), ids=configurations())
def test_a_configuration_is_one(name: str, text: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o600)
    path = tmp_path / "node.toml"
    path.write_text(text.replace("/run/secrets/evbackup/token", str(token)))
    of_group, of_verbs = _config.load(path, cli)
    assert of_group["node"]
    assert {"output", "since", "on_mismatch"} <= set(of_verbs["backup"]), name
    assert of_verbs["check"]["max_age"]


@pytest.mark.parametrize("unit", sorted((EXAMPLES / "systemd").glob("evbackup*@.*")), ids=lambda path: path.name)
def test_a_unit_is_one(unit: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing")
    # A user and a group of its own are made by whoever installs it.
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def names(text: str) -> set[str]:
    return set(re.findall(r"\bevbackup_[a-z_]+", text))


def test_rules_and_panels_name_metrics_that_there_are() -> None:
    (rules,) = documents("monitoring/alerts.yml")
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for rule in alerts)
    dashboard = json.loads((EXAMPLES / "monitoring" / "dashboard.json").read_text())
    panels = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    known = set(_metrics.HELP)
    assert names(" ".join(rule["expr"] for rule in alerts)) <= known
    assert names(panels) <= known
    assert names((ROOT / "docs" / "reference" / "metrics.md").read_text()) == known


def test_a_cron_job_runs_alone_and_gives_up_where_no_second_try_helps() -> None:
    cronjob = documents("kubernetes/cronjob.yaml")[1]
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    job = cronjob["spec"]["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert not {3, 10, 11, 13, 16, 18} & set(rule["onExitCodes"]["values"])
    (secret,) = [volume["secret"] for volume in job["template"]["spec"]["volumes"] if "secret" in volume]
    assert secret["defaultMode"] & 0o007 == 0
