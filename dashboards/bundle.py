"""Superset's import bundle, made from the files in ``assets/``.

The files keep Superset's own format. What follows from a rule is left out of them and filled in
here, so that it cannot be wrong in one place:

* identity: ``uuid5`` of ``<kind>:<slug>``, the slug being the file's name;
* references: a chart names its ``dataset`` and a dashboard its ``filters`` by slug;
* the grid: a dashboard gives ``layout``, rows of ``chart slug: width`` (12 columns a row);
* what every asset of a kind has in common (`DEFAULTS`), and that it is managed here: Superset then
  says so instead of letting people edit it, and `bootstrap.py` knows what it may delete.

Runs in Superset's environment and in the tests', so it imports nothing but PyYAML.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import yaml

ASSETS = Path(__file__).resolve().parent / "assets"
DATABASE = "tollhouse"
SCHEMA = "dm"
PALETTE = "tollhouse"
VERSION = "1.0.0"
NO_TIME_FILTER = "No filter"

DEFAULTS: dict[str, dict[str, Any]] = {
    "database": {
        "expose_in_sqllab": True,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_run_async": False,
        "extra": {"allows_virtual_table_explore": False},
    },
    "dataset": {
        "schema": SCHEMA,
        "catalog": None,
        "sql": None,
        "filter_select_enabled": True,
        "normalize_columns": False,
        "always_filter_main_dttm": False,
        "metrics": [],
    },
    "chart": {"cache_timeout": None, "query_context": None},
    "dashboard": {"published": True, "css": ""},
}
CHART_PARAMS = {
    "datasource": "0__table",  # Superset puts the dataset's number here
    "color_scheme": PALETTE,
    "row_limit": 10000,
    "extra_form_data": {},
}


class AssetError(ValueError):
    """An asset file refers to something that is not there; the message names both."""


def asset_uuid(kind: str, slug: str) -> str:
    """The identity of an asset: the same on every installation, for ever."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}:{slug}"))


def read_assets(root: Path = ASSETS) -> dict[str, dict[str, dict[str, Any]]]:
    """The files as they are: kind → slug → content."""
    return {
        kind: {
            path.stem: yaml.safe_load(path.read_text("utf-8"))
            for path in sorted((root / f"{kind}s").glob("*.yaml"))
        }
        for kind in DEFAULTS
    }


def build_bundle(database_uri: str, root: Path = ASSETS) -> dict[str, str]:
    """Superset's bundle: path → YAML text, ready for its ``ImportAssetsCommand``.

    Raises:
        AssetError: a chart or dashboard names a dataset or chart that has no file.
    """
    assets = read_assets(root)
    bundle: dict[str, dict[str, Any]] = {
        "metadata.yaml": {"version": VERSION, "timestamp": "2026-01-01T00:00:00+00:00"}
    }
    for kind, files in assets.items():
        for slug, content in files.items():
            complete = DEFAULTS[kind] | content | {"is_managed_externally": True}
            complete |= {"uuid": asset_uuid(kind, slug), "version": VERSION}
            if kind == "database":
                complete["sqlalchemy_uri"] = database_uri
            elif kind == "dataset":
                complete["database_uuid"] = asset_uuid("database", DATABASE)
                complete["columns"] = [_column(column) for column in content["columns"]]
            elif kind == "chart":
                complete = _chart(complete, assets)
            else:
                complete = _dashboard(slug, complete, assets)
            bundle[f"{kind}s/{slug}.yaml"] = complete
    return {
        path: yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        for path, content in bundle.items()
    }


def _column(column: dict[str, Any]) -> dict[str, Any]:
    return {"is_active": True, "groupby": True, "filterable": True, "is_dttm": False} | column


def _chart(chart: dict[str, Any], assets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    dataset = _known(assets, "dataset", chart.pop("dataset"))
    params = CHART_PARAMS | {"viz_type": chart["viz_type"]} | chart["params"]
    # Superset applies a dashboard's time filter only to charts that have one on the column.
    params.setdefault("adhoc_filters", [])
    if time_column := assets["dataset"][dataset].get("main_dttm_col"):
        params["adhoc_filters"] = [
            *params["adhoc_filters"],
            where(time_column, "TEMPORAL_RANGE", NO_TIME_FILTER),
        ]
    return chart | {"dataset_uuid": asset_uuid("dataset", dataset), "params": params}


def where(subject: str, operator: str, comparator: object) -> dict[str, Any]:
    """A filter of a chart, as Superset writes it."""
    return {
        "clause": "WHERE",
        "expressionType": "SIMPLE",
        "subject": subject,
        "operator": operator,
        "comparator": comparator,
    }


def _dashboard(
    slug: str, dashboard: dict[str, Any], assets: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    layout = dashboard.pop("layout")
    charts = [_known(assets, "chart", chart) for row in layout for chart in row["charts"]]
    numbers = {chart: number for number, chart in enumerate(charts, start=1)}
    filters = [_filter(entry, numbers, assets) for entry in dashboard.pop("filters")]
    return dashboard | {
        "slug": slug,
        "position": _position(dashboard["dashboard_title"], layout, numbers, assets),
        "metadata": {
            "color_scheme": PALETTE,
            "cross_filters_enabled": True,
            "refresh_frequency": 0,
            "expanded_slices": {},
            "label_colors": {},
            "timed_refresh_immune_slices": [],
            "default_filters": json.dumps({}),
            "native_filter_configuration": filters,
        },
    }


def _filter(
    entry: dict[str, Any], numbers: dict[str, int], assets: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """A native filter; it reaches the charts whose dataset has its column, and no others."""
    column = entry["column"]
    reached = {
        slug
        for slug, dataset in assets["dataset"].items()
        if column in {each["column_name"] for each in dataset["columns"]}
    }
    excluded = [
        number for chart, number in numbers.items()
        if assets["chart"][chart]["dataset"] not in reached
    ]  # fmt: skip
    is_time = entry["filterType"] == "filter_time"
    controls = entry.get("controlValues", {})
    target = {
        "column": {"name": column},
        "datasetUuid": asset_uuid("dataset", _known(assets, "dataset", entry["dataset"])),
    }
    return {
        "id": f"NATIVE_FILTER-{column}",
        "type": "NATIVE_FILTER",
        "filterType": entry["filterType"],
        "name": entry["name"],
        "description": entry.get("description", ""),
        "targets": [{} if is_time else target],
        "scope": {"rootPath": ["ROOT_ID"], "excluded": excluded},
        "cascadeParentIds": [],
        "controlValues": controls,
        # Charts then wait for the filter's first value instead of asking without one.
        "requiredFirst": controls.get("defaultToFirstItem", False),
        "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
    }


def _position(
    title: str,
    layout: list[dict[str, Any]],
    numbers: dict[str, int],
    assets: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    rows = [f"ROW-{number}" for number in range(1, len(layout) + 1)]
    position: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": title}},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": rows, "parents": ["ROOT_ID"]},
    }
    for row, content in zip(rows, layout, strict=True):
        position[row] = {
            "type": "ROW",
            "id": row,
            "children": [f"CHART-{chart}" for chart in content["charts"]],
            "parents": ["ROOT_ID", "GRID_ID"],
            "meta": {"background": "BACKGROUND_TRANSPARENT"},
        }
        for chart, width in content["charts"].items():
            position[f"CHART-{chart}"] = {
                "type": "CHART",
                "id": f"CHART-{chart}",
                "children": [],
                "parents": ["ROOT_ID", "GRID_ID", row],
                "meta": {
                    "chartId": numbers[chart],  # Superset puts the chart's number here
                    "uuid": asset_uuid("chart", chart),
                    "width": width,
                    "height": content["height"],
                    "sliceName": assets["chart"][chart]["slice_name"],
                },
            }
    return position


def _known(assets: dict[str, dict[str, Any]], kind: str, slug: str) -> str:
    if slug not in assets[kind]:
        raise AssetError(f"there is no {kind} '{slug}': expected a file assets/{kind}s/{slug}.yaml")
    return slug
