"""The files of a landing folder in the order of their paths, listed no further than they are wanted.

In S3, a listing begins behind the position and is asked for page by page; elsewhere folders that sort before the position are
not opened. So a table whose files stand in folders that grow (a day, an hour) costs the same however many it has had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, Final

import fsspec

from lakehouse_assets.sources.errors import SourceAccessDenied, SourceUnavailable

S3: Final = ("s3", "s3a")


class LandingFiles:
    """A folder on any fsspec URL; paths in it are told relative to a table's folder."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        local = "://" not in url or url.startswith(("file://", "memory://"))
        settings = {**({} if local else {"use_listings_cache": False}), **(options or {})}
        self._files, self.folder = fsspec.core.url_to_fs(url, **settings)
        self._secrets = [str(value) for value in (options or {}).values() if len(str(value)) > 3]

    def following(self, table: str, *, after: str | None, suffixes: Sequence[str], most: int | None) -> list[str]:
        """The next paths behind a position, about so many (None: all), without a gap. Raises like ``paths``.

        A listing that is made while files land may lack one and show another that came later. So it is made twice: what the
        first one shows, and all that came before that, was there when the second began, and this it cannot lack.
        """
        seen = list(islice(self.paths(table, after=after, suffixes=suffixes), most))
        if not seen:
            return []
        return list(takewhile(seen[-1].__ge__, self.paths(table, after=after, suffixes=suffixes)))

    def paths(self, table: str, *, after: str | None, suffixes: Sequence[str]) -> Iterator[str]:
        """Paths of files with one of the suffixes behind a position; names that start with a dot are not seen.

        Raises SourceUnavailable and SourceAccessDenied.
        """
        folder = f"{self.folder}/{table}"
        protocols = self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,)
        found = self._in_s3(folder, after) if set(S3) & set(protocols) else self._in_folder(folder, "", after)
        try:
            for path in found:
                if path.endswith(tuple(suffixes)) and not any(part.startswith(".") for part in path.split("/")):
                    yield path
        except OSError as error:
            raise self._told(f"{folder} cannot be listed", error) from None

    def content(self, table: str, path: str) -> bytes:
        """A file. Raises SourceUnavailable and SourceAccessDenied."""
        full = f"{self.folder}/{table}/{path}"
        try:
            content: bytes = self._files.cat_file(full)
        except OSError as error:
            raise self._told(f"{full} cannot be read", error) from None
        return content

    def _in_folder(self, folder: str, prefix: str, after: str | None) -> Iterator[str]:
        try:
            entries = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return
        named = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory" for entry in entries}
        for name, is_folder in sorted(named.items(), key=lambda entry: entry[0] + "/" * entry[1]):
            path = f"{prefix}{name}"
            if is_folder and (after is None or f"{path}/" > after or after.startswith(f"{path}/")):
                yield from self._in_folder(f"{folder}/{name}", f"{path}/", after)
            elif not is_folder and (after is None or path > after):
                yield path

    def _in_s3(self, folder: str, after: str | None) -> Iterator[str]:
        bucket, _, key = folder.removeprefix("/").partition("/")
        prefix = f"{key}/"
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        if after is not None:
            asked["StartAfter"] = prefix + after
        while True:
            page = self._files.call_s3("list_objects_v2", **asked)
            yield from (found["Key"].removeprefix(prefix) for found in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _told(self, what: str, error: OSError) -> SourceUnavailable | SourceAccessDenied:
        text = str(error)
        for value in self._secrets:
            text = text.replace(value, "***")
        refused = isinstance(error, PermissionError)
        return SourceAccessDenied(f"{what}: {text}") if refused else SourceUnavailable(f"{what}: {text}")
