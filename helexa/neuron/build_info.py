"""Which build this is: enough to tell two apart, cheap enough to ask often."""

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from time import gmtime, strftime, time

from helexa.wire.fleet import Version

_ROOT = Path(__file__).resolve().parents[2]
_STARTED_AT = time()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _torch() -> tuple[str, str | None]:
    """Torch's version and the CUDA it was built for, ``None`` for a CPU build.

    Read from its own file: this process never imports torch, and the package's metadata leaves the build out for some.
    """
    try:
        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError):
        return "unknown", None
    found = dict(re.findall(r"^(\w+)(?:: [^=]+)? = '([^']*)'", text, re.MULTILINE))
    return found.get("__version__", "unknown"), found.get("cuda")


def _git(*arguments: str) -> str | None:
    """The output of git in the source tree; ``None`` for an installed package, or without git."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(_ROOT), *arguments],  # noqa: S607 - whichever git the user runs
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def build_version() -> Version:
    """This process's build. Blocks on git for some milliseconds the first time: call it before serving."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    torch, cuda = _torch()
    return Version(
        version=_installed("helexa"),
        git_sha=_git("rev-parse", "HEAD"),
        dirty=None if status is None else bool(status),
        build_time=_build_time(),
        python=platform.python_version(),
        torch=torch,
        transformers=_installed("transformers"),
        cuda=cuda,
        started_at=_STARTED_AT,
    )


def _build_time() -> str | None:
    """The commit's time in a source tree, else when the package's files were installed; ISO 8601, UTC."""
    stamp = _git("log", "-1", "--format=%ct")
    seconds = float(stamp) if stamp else Path(__file__).stat().st_mtime
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))
