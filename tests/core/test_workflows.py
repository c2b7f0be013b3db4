"""What the workflows rely on: pinned actions, credentials only for who pushes, and `validate` without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SMALL = "leaderboards/cifar10-resnet20"  # the smallest board with pictures
IMPORT_NAMES = {"pillow": "PIL"}
BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from bench.cli import main
main({words!r})
"""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_action_is_pinned_to_a_commit_and_names_its_version(path):
    for used in re.findall(r"uses: (.*)", path.read_text()):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_checkout_keeps_credentials_only_in_a_job_that_pushes(path):
    for job in re.split(r"\n  (?=\w+:\n    )", path.read_text()):
        for checkout in job.split("uses: actions/checkout@")[1:]:
            step = checkout.partition("- ")[0]
            assert f"persist-credentials: {'true' if 'git push' in job else 'false'}" in step


@pytest.mark.parametrize("words", [("validate", SMALL), ("diff", SMALL, SMALL)], ids=lambda words: words[0])
def test_submissions_are_checked_with_what_the_workflow_installs_alone(words):
    workflow = (ROOT / ".github" / "workflows" / "submissions.yml").read_text()
    (installed,) = re.findall(r"pip install --no-deps ./base\n +pip install (.*)", workflow)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split("[<>=~]", text)[0] for text in project["dependencies"]}
    assert set(installed.split()) < needed
    absent = {"pandas", *(IMPORT_NAMES.get(name, name) for name in needed - set(installed.split()))}
    assert absent >= {"torch", "torchvision", "timm", "datasets"}
    code = BLOCKED.format(names=absent, words=["leaderboard", *words])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"records valid|No rank and no score changes", done.stdout)


def test_a_lot_follows_from_nothing_that_a_pull_request_holds():
    job = (ROOT / ".github" / "workflows" / "submissions.yml").read_text().partition("\n  verify:\n")[2]
    step = job.partition("- name: Run a sample")[2]
    assert "nonce=$(openssl rand -hex 16)" in step and '--nonce "$nonce"' in step and "${{" not in step


def test_a_new_submission_is_compared_with_the_author_of_the_pull_request():
    job = (ROOT / ".github" / "workflows" / "submissions.yml").read_text().partition("\n  verify:\n")[0]
    (author,) = re.findall(r"AUTHOR: \$\{\{ (.*) \}\}", job)
    assert author == "!contains(github.event.pull_request.labels.*.name, 'owner-confirmed') && " + (
        "github.event.pull_request.user.login || ''"
    )
    assert '--author "$AUTHOR"' in job


def test_the_nightly_workflow_runs_what_the_others_leave_out():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "-m 'not slow and not campaign'" in options["addopts"]
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text()
    assert "- run: pytest -n auto -m slow\n" in nightly and "- run: pytest -m campaign\n" in nightly
