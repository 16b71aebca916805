"""The check that the four packages are the ones that belong together."""

from pathlib import Path

import pytest

from helexa.origin import PACKAGES, OriginError, check_origin


def make(directory: Path, *packages: str, init: str = "__init__.py") -> Path:
    for package in packages:
        (directory / package).mkdir(parents=True)
        (directory / package / init).touch()
    return directory


def test_these_very_packages_belong_together() -> None:
    check_origin()


def test_packages_beside_each_other_pass(tmp_path: Path) -> None:
    home = make(tmp_path / "home", *PACKAGES)
    other = make(tmp_path / "other", "tui")
    check_origin(home, [str(home), str(other)])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_comes_first_is_named_with_what_to_do(tmp_path: Path, package: str) -> None:
    home = make(tmp_path / "home", *PACKAGES)
    other = make(tmp_path / "other", package)
    with pytest.raises(OriginError) as raised:
        check_origin(home, [str(other), str(home)])
    assert str(raised.value) == (
        f"the package '{package}' resolves to {other / package} instead of {home / package}. Another distribution or "
        "directory with that name comes first on the import path: run helexa in a virtual environment of its own, and "
        "not with a PYTHONPATH that holds such a directory."
    )


def test_a_module_of_that_name_is_named_as_well(tmp_path: Path) -> None:
    home = make(tmp_path / "home", *PACKAGES)
    (tmp_path / "config.py").touch()
    with pytest.raises(OriginError, match=r"'config' resolves to .*config\.py instead of"):
        check_origin(home, [str(tmp_path), str(home)])


def test_a_missing_package_resolves_to_nowhere(tmp_path: Path) -> None:
    home = make(tmp_path / "home", "config", "actors")
    with pytest.raises(OriginError, match="'tui' resolves to nowhere instead of"):
        check_origin(home, [str(home)])


def test_a_directory_without_code_shadows_nothing(tmp_path: Path) -> None:
    home = make(tmp_path / "home", *PACKAGES)
    other = make(tmp_path / "other", "config", init="notes.txt")
    check_origin(home, [str(other), str(home)])


def test_a_home_reached_through_a_link_is_the_same_home(tmp_path: Path) -> None:
    home = make(tmp_path / "home", *PACKAGES)
    link = tmp_path / "link"
    link.symlink_to(home)
    check_origin(link, [str(home)])
    check_origin(home, [str(link)])
