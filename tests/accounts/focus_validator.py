"""The validator of the FinOps Foundation for FOCUS 1.0, in a virtual environment of its own beside the checkout's.

Its requirements (`focus-validator.txt`) cannot live with the product's. Installing takes half a minute; until they
change, it is done once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from django.conf import settings

REQUIREMENTS = Path(__file__).with_name("focus-validator.txt")
HOME = Path(settings.BASE_DIR) / ".venv-focus"


def installed() -> Path:
    """The environment. Raises CalledProcessError where it cannot be made."""
    stamp = HOME / "installed.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        pip = [HOME / "bin/pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True)
        shutil.copy(REQUIREMENTS, stamp)
    return HOME


def validate(file: Path) -> str:
    """What it says of a file. Raises CalledProcessError where it could not say anything."""
    home = installed()
    beside = next(home.glob("lib/python*/site-packages"))  # where it looks for currencies
    command = [home / "bin/focus-validator", "--data-file", file, "--validate-version", "1.0"]
    return subprocess.run(command, capture_output=True, text=True, cwd=beside, check=True).stdout


def faultless(said: str) -> bool:
    """Its exit status is 0 either way."""
    return "Validation succeeded." in said and "failed" not in said
