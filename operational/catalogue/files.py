"""Reads the files of a catalogue: every row knows the file and line it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from operational.catalogue.authoring import (
    CalendarRow,
    CatalogueFile,
    ChargeClassRow,
    OfferingRow,
    PlacedRow,
    UsagePriceRow,
)  # fmt: skip
from operational.catalogue.findings import (
    CatalogueError,
    Finding,
    Place,
    field_finding,
    own_errors,
)  # fmt: skip
from operational.catalogue.findings import (
    Path as RowPath,
)

SAMPLE_CATALOGUE = Path(__file__).with_name("sample")
STANDARD_CLASSES = SAMPLE_CATALOGUE / "charge_classes.yaml"
LARGEST_FILE = 20_000_000  # bytes

_IDS = (  # what a row is called by, from the outside in
    ("offering_id", "offering"), ("charge_class", "price"), ("allowance", "allowance"),
    ("calendar_id", "calendar"), ("discount", "discount"), ("occasion", "one_off_price"),
    ("component", "component"),
)  # fmt: skip
_LISTED = {
    "charge_classes": "charge_class", "price_lists": "price_list", "covers": "coverage",
}  # fmt: skip


@dataclass(frozen=True)
class PriceList:
    """Prices that versions share: each version gets its own copy of them."""

    name: str
    place: Place
    prices: tuple[UsagePriceRow, ...]


@dataclass
class Catalogue:
    """All rows of some files."""

    charge_classes: list[ChargeClassRow] = field(default_factory=list)
    calendars: list[CalendarRow] = field(default_factory=list)
    price_lists: list[PriceList] = field(default_factory=list)
    offerings: list[OfferingRow] = field(default_factory=list)


def read_catalogue(paths: Iterable[Path]) -> tuple[Catalogue, list[Finding]]:
    """The rows of files and folders (their ``*.yaml``), and what is wrong with the files.

    A faulty offering gives no rows, the others of its file do; a file that is faulty elsewhere
    gives none, since others may refer to what is missing. Raises CatalogueError if there is no file
    at all.
    """
    catalogue, findings = Catalogue(), []
    for file in _files(paths):
        content, places, faults = _parse(file)
        if faults:
            findings += faults
            continue
        sound: list[int] | None = None  # the offerings that are kept, if not all are
        try:
            card = CatalogueFile.model_validate(content)
        except ValidationError as error:
            errors = own_errors(error)
            findings += [_field_finding(file, content, places, item) for item in errors]
            sound = _sound_offerings(content, [item["loc"] for item in errors])
            if not sound:
                continue
            kept = [content["offerings"][number] for number in sound]
            card = CatalogueFile.model_validate(content | {"offerings": kept})
        place_rows(card, (), partial(_place_of, places, file.name, sound))
        catalogue.charge_classes += card.charge_classes
        catalogue.calendars += card.calendars
        catalogue.offerings += card.offerings
        catalogue.price_lists += [
            PriceList(name, _nearest(places, file.name, ("price_lists", name)), prices)
            for name, prices in card.price_lists.items()
        ]
    return catalogue, findings


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
            if not inside:
                raise CatalogueError([Finding("empty_folder", (), Place(str(path)))])
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise CatalogueError([Finding("no_file", (), Place(str(path)))])
    return list(found)


Way = tuple[Any, ...]  # keys and indexes that lead to a node
Places = dict[Way, int]


def _parse(file: Path) -> tuple[Any, Places, list[Finding]]:
    """Content, the line of every node by its path, and what is wrong with the YAML."""
    places: Places = {}
    try:
        if file.stat().st_size > LARGEST_FILE:
            return None, places, [Finding("file_too_large", (), Place(file.name))]
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return {}, places, []
            twice = list(_keys_given_twice(node))
            content = loader.construct_document(node)
        finally:
            loader.dispose()
        if not isinstance(content, dict):
            return None, places, [Finding("no_mapping", (), Place(file.name, 1))]
        for path, line in _lines(node, ()):
            places.setdefault(path, line)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        detail = " ".join(part for part in (error.context, error.problem) if part)
        return None, {}, [Finding("no_yaml", (), Place(file.name, line), {"detail": detail})]
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        return None, {}, [Finding("no_yaml", (), Place(file.name), {"detail": str(error)})]
    return content, places, [
        Finding("key_twice", (), Place(file.name, line), {"name": key}) for key, line in twice
    ]  # fmt: skip


def _keys_given_twice(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Keys that a mapping has twice: YAML takes the last and says nothing."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            names = set()
            for key, value in node.value:
                if key.value in names and key.tag != "tag:yaml.org,2002:merge":
                    yield str(key.value), key.start_mark.line + 1
                names.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _lines(node: yaml.Node, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines(value, (*path, number))


def _nearest(places: Places, file: str, path: Way) -> Place:
    """Where a path stands, or the nearest row around it."""
    while path not in places and path:
        path = path[:-1]
    return Place(file, places.get(path, 1))


def _place_of(places: Places, file: str, sound: list[int] | None, path: Way) -> Place:
    """Where a row stands; offerings are counted as they are in the file."""
    if sound is not None and path[:1] == ("offerings",) and len(path) > 1:
        path = ("offerings", sound[path[1]], *path[2:])
    return _nearest(places, file, path)


def _sound_offerings(content: Any, faults: list[Way]) -> list[int]:
    """The offerings of a file without a fault; none if something else has one."""
    if any(way[:1] != ("offerings",) or len(way) < 2 for way in faults):
        return []
    faulty = {way[1] for way in faults}
    return [number for number in range(len(content["offerings"])) if number not in faulty]


def place_rows(row: Any, path: Way, place_of: Callable[[Way], Place]) -> None:
    """Say to a row and to all rows in it where they stand."""
    if isinstance(row, PlacedRow):
        row.put(place_of(path))
    if isinstance(row, BaseModel):
        for name in type(row).model_fields:
            place_rows(getattr(row, name), (*path, name), place_of)
    elif isinstance(row, tuple):
        for number, inner in enumerate(row):
            place_rows(inner, (*path, number), place_of)
    elif isinstance(row, dict):
        for name, inner in row.items():
            place_rows(inner, (*path, name), place_of)


def _field_finding(file: Path, content: Any, places: Places, error: Any) -> Finding:
    return field_finding(
        error, row_path(content, error["loc"]), _nearest(places, file.name, error["loc"])
    )


def row_path(content: Any, location: Way) -> RowPath:
    """The rows on the way to a field, called by their ids where they have one."""
    path: list[tuple[str, str]] = []
    offering = ""
    listed = ""
    for step in location:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(step, str):
            if listed == "price_lists":
                path.append(("price_list", step))
            listed = step
            continue
        if not isinstance(content, dict):
            continue
        if listed == "tiers":
            path.append(("tier", str(step + 1)))
        elif listed == "versions":
            path[-1:] = [("version", f"{offering}@{content.get('version_number', step + 1)}")]
        else:
            key = next((key for key, _ in _IDS if key in content), None)
            kind = _LISTED.get(listed) or dict(_IDS).get(key or "", "row")
            offering = str(content.get("offering_id", offering))
            path.append((kind, str(content[key] if key else step + 1)))
    return tuple(path)
