"""A folder, an archive, a URL or a server's address -> the store of objects that it names."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from circuit_atlas.storage_schema import archive
from circuit_atlas.storage_schema.archive_objects import ArchiveObjects
from circuit_atlas.storage_schema.errors import NotAnAtlasError, WriteError
from circuit_atlas.storage_schema.http_address import shown
from circuit_atlas.storage_schema.http_objects import open_served
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.patience import READERS_S, RETRIES, Patience
from circuit_atlas.storage_schema.refusals import write_error
from circuit_atlas.storage_schema.wording import in_words

_GIVE = "give the folder or URL of an atlas"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def open_store(
    location: str | Path, *, create: bool = False, patience_s: float = READERS_S
) -> Objects:
    """Open a folder, a `.zip` or `.tar` of one, a URL that obstore knows (`s3://`, `gs://`,
    `az://`, `file://`, ...), or what `circuit-atlas serve` serves at an `http://` address.

    Credentials of a URL come from where obstore looks for them.

    Args:
        location: the folder, archive or URL.
        create: make the folder where there is none.
        patience_s: how long a store is waited for that does not answer, in seconds. Default: that
            of readers.

    Raises:
        NotAnAtlasError: there is no such folder, it is a file, the URL is of no known kind, or an
            archive holds no atlas.
        CorruptError: what an archive holds is not as an archive of an atlas has it.
        WriteError: the folder could not be made, or an address of a server was to be written.
        StoreError: no server answers at the address.
    """
    text = str(location)
    if text[:8].lower().startswith(("http://", "https://")):
        if create:
            raise WriteError(
                f"cannot write {shown(text)}: what `circuit-atlas serve` serves is read-only; "
                "give its folder or its store's URL"
            )
        return open_served(text, patience_s=patience_s)
    if _is_url(text):
        try:
            return Objects(
                from_url(text, retry_config=RETRIES), location=text, patience=Patience(patience_s)
            )
        except (BaseError, OSError, ValueError) as error:
            raise NotAnAtlasError(
                f"cannot open {text}: {in_words(error)}; give a folder or a URL such as "
                "s3://bucket/folder"
            ) from error
    folder = _folder(text)
    try:
        if create and not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        is_folder, is_there = folder.is_dir(), folder.exists()
    except OSError as error:
        if create:
            raise write_error(str(folder), error) from error
        raise NotAnAtlasError(f"cannot open {folder}: {in_words(error)}; {_GIVE}") from error
    if is_there and not is_folder and folder.suffix.lower() in archive.ENDINGS:
        if create:
            raise WriteError(
                f"cannot write {folder}: an atlas in an archive is read-only; unpack it"
            )
        return ArchiveObjects(folder)
    if is_there and not is_folder and folder.name.lower().endswith(archive.PACKED_TAR):
        raise NotAnAtlasError(
            f"{folder} is packed as a whole, so nothing can be read of it in its place: unpack it, "
            "or pack the folder as .zip or .tar"
        )
    if not is_folder:
        raise NotAnAtlasError(f"{folder} {'is a file' if is_there else 'does not exist'}: {_GIVE}")
    return Objects(
        LocalStore(folder, automatic_cleanup=True),
        location=str(folder),
        patience=Patience(patience_s),
    )


def find_store(location: str | Path) -> Objects | None:
    """Return the store that a build would use, or None where it would make the folder.

    Makes nothing, and raises as `open_store` would that makes it.
    """
    text = str(location)
    if not _is_url(text):
        folder = _folder(text)
        try:
            if not folder.exists():
                base = next(parent for parent in folder.parents if parent.exists())
                if base.is_dir():
                    return None
                raise NotADirectoryError(errno.ENOTDIR, str(base))
        except OSError as error:
            raise write_error(str(folder), error) from error
    return open_store(location)


def _is_url(text: str) -> bool:
    return _URL.match(text) is not None and not text.startswith("file://")


def _folder(text: str) -> Path:
    folder = Path(text.removeprefix("file://"))
    try:
        return folder.expanduser()
    except RuntimeError:  # of a user that there is none of: then it is the folder's name
        return folder
