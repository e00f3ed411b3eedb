"""What the repository as a whole promises: no registry hosts, no machine's paths, no leftovers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tollhouse.settings import PROJECT_ROOT, Settings

TOP_LEVEL = {
    "tollhouse", "ingestion", "dbt", "expectations", "ml", "operational", "dashboards", "dags",
    "docs", "tests", "requirements", ".ci",
}  # fmt: skip
# Written in halves, so that this file does not name what it forbids.
REGISTRY_HOSTS = re.compile(
    "|".join(("pypi" r"\.org", "python" r"hosted\.org", "npm" r"js\.(org|com)", r"deb\.deb" "ian"))
)
MACHINE_PATHS = re.compile(r"(?<![\w./])/(root|home/\w+|Users/\w+|tmp)/")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT, capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    paths = [PROJECT_ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content[:8000]:
            found.append((path.relative_to(PROJECT_ROOT), content.decode("utf-8")))
    return found


def test_no_file_names_a_package_registry() -> None:
    assert not [str(path) for path, text in texts() if REGISTRY_HOSTS.search(text)]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path}: {match.group(0)}"
        for path, text in texts()
        if path.suffix in {".py", ".md", ".yml", ".yaml", ".toml", ".sql"}
        or path.name == "Makefile"
        for match in MACHINE_PATHS.finditer(text)
    ]
    assert not found, found


def test_lock_files_pin_every_package_with_a_hash() -> None:
    for name in ("platform", "superset"):
        text = (PROJECT_ROOT / "requirements" / f"{name}.txt").read_text()
        pins = re.findall(r"^[A-Za-z0-9][^\s=]*==\S+[^\n]*", text, re.MULTILINE)
        hashes = text.count("--hash=sha256:")
        assert len(pins) > 100
        assert hashes >= len(pins)
        assert "://" not in text


def test_every_direct_dependency_is_locked() -> None:
    for name in ("platform", "superset"):
        wanted = re.findall(
            r"^([A-Za-z0-9_.-]+)",
            (PROJECT_ROOT / "requirements" / f"{name}.in").read_text(),
            re.MULTILINE,
        )
        locked = (PROJECT_ROOT / "requirements" / f"{name}.txt").read_text().lower()
        for package in wanted:
            pattern = re.sub(r"[-_.]+", "[-_.]", package.lower())
            assert re.search(rf"^{pattern}(\[.*\])?==", locked, re.MULTILINE), package


def test_packages_of_the_design_are_in_their_places() -> None:
    platform = (PROJECT_ROOT / "requirements" / "platform.in").read_text()
    superset = (PROJECT_ROOT / "requirements" / "superset.in").read_text()
    for package in (
        "apache-airflow", "dbt-core", "dbt-postgres", "duckdb", "pandas", "great-expectations",
        "sqlalchemy", "scikit-learn", "pytest",
    ):  # fmt: skip
        assert re.search(rf"^{package}\b", platform, re.MULTILINE), package
    assert re.search(r"^apache-superset\b", superset, re.MULTILINE)


def test_there_is_no_room_the_architecture_does_not_know() -> None:
    rooms = {path.relative_to(PROJECT_ROOT).parts[0] for path in tracked()
             if len(path.relative_to(PROJECT_ROOT).parts) > 1}  # fmt: skip
    assert rooms <= TOP_LEVEL, rooms - TOP_LEVEL


def test_every_setting_is_documented() -> None:
    page = (PROJECT_ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`TOLLHOUSE_{name.upper()}`" in page, name
        assert field.description, name
