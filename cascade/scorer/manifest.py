"""What a folder of weights is: how it was made, of what, how good it was, and whether its files are still those.

Serving refuses a folder whose manifest is missing, describes other files, or was trained on another rendering.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.scorer.calibration import Calibration
from cascade.scorer.text import RENDERING

FILES = ("config.json", "head.safetensors", "model.safetensors", "tokenizer.json")
NAME = "manifest.json"


class UnfitWeights(ValueError):
    """A folder of weights that must not be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    version: str  # the first 12 hex digits of the sha256 over both weights files' sha256
    rendering: int  # of `text.read`; other texts would be other inputs
    window: int  # word pieces of each text
    calibration: Calibration
    config: Mapping[str, Any]  # the training configuration
    data: Mapping[str, Any]  # file names, rows, sha256
    git_revision: str
    metrics: Mapping[str, Any]  # by slice, on the reported half of validation
    files: Mapping[str, str]  # name -> sha256
    abort_below: float = 0.0  # a draft whose beginning scores less is given up (bench.early_verdicts); 0: none is
    abort_from: float = 0.5  # the lowest threshold of acceptance for which that was measured to lose nothing


def describe(folder: Path, **facts: Any) -> Manifest:
    """The manifest of freshly written weights. `facts`: window, calibration, config, data, metrics."""
    files = {name: _sha256(folder / name) for name in FILES}
    return Manifest(
        version=hashlib.sha256((files["model.safetensors"] + files["head.safetensors"]).encode()).hexdigest()[:12],
        rendering=RENDERING,
        git_revision=_git_revision(),
        files=files,
        **facts,
    )


def write(manifest: Manifest, folder: Path) -> None:
    (folder / NAME).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> Manifest:
    """The folder's manifest, its files checked. Raises UnfitWeights."""
    manifest = _described(folder)
    for name in FILES:
        if not (folder / name).is_file() or _sha256(folder / name) != manifest.files.get(name):
            raise UnfitWeights(f"{folder / name} is not the file that {NAME} describes")
    return manifest


def outdated(folder: Path) -> bool:
    """Whether weights are not for this code, by their manifest alone: the files are looked at when they are loaded."""
    try:
        _described(folder)
    except UnfitWeights:
        return True
    return False


def _described(folder: Path) -> Manifest:
    try:
        found = json.loads((folder / NAME).read_text())
        if found["rendering"] != RENDERING:
            raise UnfitWeights(f"{folder} was trained on rendering {found['rendering']}, this code writes {RENDERING}")
        return Manifest(**{**found, "calibration": Calibration(**found["calibration"])})
    except FileNotFoundError:
        raise UnfitWeights(f"{folder} has no {NAME}: train weights with manage.py train_scorer") from None
    except UnfitWeights:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise UnfitWeights(f"{folder / NAME} is not a manifest: {error!r}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _git_revision() -> str:
    """The commit the code stands at, "" outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answered = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answered.stdout.strip()
