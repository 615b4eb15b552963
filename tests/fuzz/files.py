"""Links, pipes, devices and odd names in an atlas' folder, and a server of such an atlas."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.errors import CorruptError
from tests.fuzz.atlases import LAYER, commit_of, read_all
from tests.fuzz.mutation import altered as altered_bytes
from tests.fuzz.watch import Run
from tests.service.conftest import write_atlas

_SECRET = b"a file of this machine, and none of the atlas"
NAMES = (
    "..",
    "../secret",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\windows\\win.ini",
    "\\\\server\\share",
    "CON",
    "a\0b",
    "a\nb",
    "\u202egnp.exe",
    "e\u0301",
    "%2e%2e%2fsecret",
    "..%2fsecret",
    ".",
    "",
    " ",
    "~root",
    "x" * 300,
    "y/" * 3000,
    "\ud800",
    "layers/../../secret",
    "a=2F..=2Fb",
)


def special(folder: Path) -> Run:
    """A file or folder of the atlas in whose place something else lies, or something beside it."""
    whole, secret = _made(folder)

    def run(random: Random) -> None:
        atlas = Path(mkdtemp(dir=folder)) / "atlas"
        shutil.copytree(whole, atlas)
        try:
            random.choice(_SPECIAL)(atlas, secret, random)
            read_all(atlas)
        finally:
            _remove(atlas)

    return run


def names(folder: Path) -> Run:
    """Odd names of files and folders, and of files in a unit's record."""
    whole, _ = _made(folder)

    def run(random: Random) -> None:
        atlas = Path(mkdtemp(dir=folder)) / "atlas"
        shutil.copytree(whole, atlas)
        try:
            _odd_name(atlas, random)
            read_all(atlas)
        finally:
            _remove(atlas)

    return run


def served_atlas(folder: Path) -> Run:
    """Requests to a server of an atlas in which something is altered, linked or of an odd name.

    A fault where an answer is no error of the server's own, or one unit's trouble is another's.
    """
    from starlette.testclient import TestClient

    from circuit_atlas.service.web.app import create_app

    whole, secret = _made(folder)

    def run(random: Random) -> None:
        atlas = Path(mkdtemp(dir=folder)) / "atlas"
        shutil.copytree(whole, atlas)
        try:
            _any(atlas, secret, random)
            with TestClient(create_app(atlas), raise_server_exceptions=False) as client:
                for path in random.sample(QUESTIONS, 12):
                    answer = client.get(f"/api/v1/{path}")
                    if answer.status_code >= 400:
                        error = answer.json()["error"]
                        assert set(error) == {"kind", "message"}
                        assert "\n" not in error["message"]
                        assert str(folder) not in error["message"]
                    assert _SECRET not in answer.content
                    assert error_is_ours(answer.status_code, answer.content), answer.text
        finally:
            _remove(atlas)

    return run


def error_is_ours(status: int, content: bytes) -> bool:
    """Whether an answer is none that tells of a fault of the server."""
    return status < 500 or b'"kind":"internal"' not in content.replace(b" ", b"")


QUESTIONS = (
    "atlas",
    "layers",
    "layers/conv3",
    "layers/conv3/units",
    "layers/conv3/units?format=csv",
    "layers/conv3/distribution",
    "layers/conv3/units/0",
    "layers/conv3/units/1",
    "layers/conv3/units/1/similar?keep=0.5",
    "layers/conv3/units/0/circuit?keep=0.5",
    "layers/conv3/units/0/diagram?keep=0.5",
    "layers/conv3/units/0/faithfulness",
    "layers/conv3/units/0/responses",
    "layers/conv3/units/0/groups",
    "layers/conv3/uses?convolution=conv1&keep=0.5",
    "layers/conv3/comparison",
    "images",
    "images/0",
    "images/0/file",
    "images/2/units",
    "search?q=conv",
    "objects/atlas.json",
    "objects/layers/conv3/commits/0.json",
    "listing",
    "listing/layers/conv3",
    "names/layers",
)


def _made(folder: Path) -> tuple[Path, Path]:
    """A whole atlas, and a file outside of it."""
    secret = folder / "secret"
    secret.write_bytes(_SECRET)
    write_atlas(folder / "whole")
    return folder / "whole", secret


def _remove(atlas: Path) -> None:
    shutil.rmtree(atlas.parent, ignore_errors=True)  # which follows no links


def _any(atlas: Path, secret: Path, random: Random) -> None:
    way = random.randrange(3)
    if way == 0:
        random.choice(_SPECIAL)(atlas, secret, random)
    elif way == 1:
        _odd_name(atlas, random)
    else:
        file = _file(atlas, random)
        file.write_bytes(altered_bytes(file.read_bytes(), random))


def _file(atlas: Path, random: Random) -> Path:
    return random.choice(sorted(path for path in atlas.rglob("*") if path.is_file()))


def _folder(atlas: Path, random: Random) -> Path:
    return random.choice(sorted(path for path in atlas.rglob("*") if path.is_dir()))


def _linked_out(atlas: Path, secret: Path, random: Random) -> None:
    """A link to the same file, moved out of the atlas: its digest holds."""
    file = _file(atlas, random)
    shutil.move(file, secret.with_name("moved"))
    file.symlink_to(secret.with_name("moved"))


def _linked_to_a_secret(atlas: Path, secret: Path, random: Random) -> None:
    file = _file(atlas, random)
    file.unlink()
    file.symlink_to(secret)


def _linked_to_a_device(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    file.symlink_to(random.choice(("/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem")))


def _linked_within(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file, other = _file(atlas, random), _file(atlas, random)
    if file != other:
        file.unlink()
        file.symlink_to(os.path.relpath(other, file.parent))


def _circle(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    file.symlink_to(file.name)


def _to_nothing(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    file.symlink_to("nothing")


def _pipe(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    os.mkfifo(file)


def _socket(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    here = Path.cwd()
    os.chdir(file.parent)  # a socket's whole path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(file.name[:90])
    finally:
        os.chdir(here)


def _folder_for_a_file(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    file = _file(atlas, random)
    file.unlink()
    file.mkdir()


def _file_for_a_folder(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    folder = _folder(atlas, random)
    shutil.rmtree(folder)
    folder.write_bytes(b"x")


def _folder_linked_out(atlas: Path, secret: Path, random: Random) -> None:
    folder = _folder(atlas, random)
    moved = secret.with_name("elsewhere")
    shutil.rmtree(moved, ignore_errors=True)
    shutil.move(folder, moved)
    folder.symlink_to(random.choice((moved, Path("/"), Path("/proc"), Path("/sys"))))


def _folder_within_itself(atlas: Path, secret: Path, random: Random) -> None:
    del secret
    folder = _folder(atlas, random)
    (folder / "again").symlink_to(random.choice((folder, folder.parent)))


def _without_end(atlas: Path, secret: Path, random: Random) -> None:
    """A file of a terabyte that takes no room."""
    del secret
    file = _file(atlas, random)
    with file.open("r+b") as opened:
        opened.truncate(2**40)


_SPECIAL: Sequence[Callable[[Path, Path, Random], None]] = (
    _linked_out,
    _linked_to_a_secret,
    _linked_to_a_device,
    _linked_within,
    _circle,
    _to_nothing,
    _pipe,
    _socket,
    _folder_for_a_file,
    _file_for_a_folder,
    _folder_linked_out,
    _folder_within_itself,
    _without_end,
)


def _odd_name(atlas: Path, random: Random) -> None:
    name = random.choice(NAMES)
    if random.random() < 0.5:
        _name_in_a_record(atlas, name)
        return
    folder = _folder(atlas, random)
    safe = name.replace("/", "_").replace("\0", "_").replace("\ud800", "\udcff")[:200]
    if safe in ("", ".", ".."):
        return
    path = folder / safe
    if random.random() < 0.5:
        path.mkdir(exist_ok=True)
    else:
        path.write_bytes(b"{}")


def _name_in_a_record(atlas: Path, name: str) -> None:
    """A unit's record that names its files so."""
    commit = commit_of(atlas, 0)
    objects = tuple(
        StoredObject(name if number % 2 else f"{name}/{stored.path.rsplit('/', 1)[1]}", 9, "0" * 64)
        for number, stored in enumerate(commit.objects)
    )
    try:
        text = replace(commit, objects=objects).to_json()
        (atlas / layer_paths.commit(LAYER, 0)).write_text(text)
    except UnicodeEncodeError as error:
        raise CorruptError("a name that no document holds") from error
