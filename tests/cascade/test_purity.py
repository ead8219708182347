"""The engine is plain Python: every file of `cascade/` runs without Django, unless it is named here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cascade

ROOT = Path(cascade.__file__).parent
OF_DJANGO = {
    "admin.py", "apps.py", "call_reconciliation.py", "conversation_pages.py", "conversations", "drift_pages.py",
    "drift_watch.py", "exploration.py", "gaps.py", "knowledge.py", "knowledge_pages.py", "management", "material.py",
    "memory_pages.py", "memory_saving.py", "migrations", "models", "personal_data.py", "proposal_pages.py",
    "proposal_plots.py", "proposal_report.py", "remembered.py", "saved_replies.py", "scorer_labels.py",
    "scorer_pages.py", "scorer_training.py", "scorer_tuning.py", "scorer_versions.py", "serializers.py",
    "story.py", "strategies.py", "strategy_form.py", "strategy_pages.py", "strategy_proposals.py",
    "strategy_replays.py", "templatetags", "trial_pages.py", "turn_table.py", "uploads.py", "urls.py", "usage.py",
    "views.py", "wiring.py",
}  # fmt: skip
IMPORT_ALL = """
import importlib, json, sys, traceback
sys.modules["django"] = None
failures = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps(failures))
"""


def names_of(paths):
    return [".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def failures_without_django(names):
    run = [sys.executable, "-c", IMPORT_ALL, *names]
    done = subprocess.run(run, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def failures():
    return failures_without_django(PURE)


def is_pure(path: Path) -> bool:
    """A resource of the REST API is of Django by its name."""
    return path.relative_to(ROOT).parts[0] not in OF_DJANGO and not path.name.endswith("_api.py")


PURE = names_of(path for path in sorted(ROOT.rglob("*.py")) if is_pure(path))


@pytest.mark.parametrize("name", PURE)
def test_it_can_be_imported_where_there_is_no_django(name, failures):
    assert name not in failures, failures[name]


def test_what_needs_django_is_found_out():
    assert "django" in failures_without_django(["cascade.models"])["cascade.models"]
