"""Gathers what becomes of data: the cache of models, the gateway's database. Nothing is written."""

import os
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from helexa.cli.doctor.facts import Cache

_SECONDS = 5
_SQLITE = "sqlite:///"
_LEAST_FREE = 16 * 2**20
"""Bytes that SQLite needs to write its log before it writes anything."""


def model_cache(environment: Mapping[str, str]) -> Cache:
    """Where models from Hugging Face are kept, by the rules of its own library."""
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE).expanduser()
    place = _existing(path)
    offline = environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = None
    return Cache(str(path), free, os.access(place, os.W_OK | os.X_OK) and place.is_dir(), offline)


def _existing(path: Path) -> Path:
    """The path, or what there is of it: what is missing would be made."""
    for each in (path, *path.parents):
        try:
            if each.exists():
                return each
        except OSError:  # not to be entered
            return each
    return Path("/")


def database_trouble(url: str) -> str | None:
    """Why the gateway's database cannot be used; ``None`` if it can, or will be made."""
    from helexa.database import Component, Database, StoreSettingError

    try:
        Database(url, Component("doctor", ())).close()  # connects to nothing
    except StoreSettingError as error:
        return str(error).rstrip(".")
    return _sqlite_trouble(_sqlite_path(url)) if url.startswith(_SQLITE) else _postgres_trouble(url)


def _sqlite_path(url: str) -> Path:
    return Path(url.removeprefix(_SQLITE)).expanduser().absolute()


def _sqlite_trouble(path: Path) -> str | None:
    place = path if path.exists() else _existing(path.parent)
    if not path.exists() and not place.is_dir():
        return f"cortex.database: {place} is no directory"
    if not (os.access(place, os.W_OK) and os.access(place if place.is_dir() else place.parent, os.W_OK)):
        return f"cortex.database: this user may not write {place}"
    if shutil.disk_usage(place).free < _LEAST_FREE:
        return f"cortex.database: the disk of {place} is full"
    return _unreadable(path) if path.exists() else None


def _unreadable(path: Path) -> str | None:
    try:
        # not "immutable": a fleet may be writing it
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_SECONDS)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"cortex.database: {path} cannot be read: {error}"
    return None


def _postgres_trouble(url: str) -> str | None:
    import sqlalchemy as sa

    parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
    given = {} if "connect_timeout" in parsed.query else {"connect_timeout": _SECONDS}
    engine = sa.create_engine(parsed, connect_args=given, hide_parameters=True)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return f"cortex.database does not answer: {said}"
    finally:
        engine.dispose()
    return None
