"""The dashboard assets: dashboard → chart → dataset → column of a public dbt model."""

from __future__ import annotations

import importlib.util
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
import yaml

from tollhouse.settings import PROJECT_ROOT

MARTS = PROJECT_ROOT / "dbt" / "models" / "dm"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ENGLISH = re.compile(r"[A-Za-z]{2}")
URI = "postgresql+psycopg2://bi_reader@127.0.0.1:5432/tollhouse"
# Words of the SQL the datasets use that are no column; a name before "(" is a function.
SQL_WORDS = {
    "and", "at", "case", "distinct", "else", "end", "filter", "not", "or", "then", "time", "when",
    "where", "zone",
}  # fmt: skip


def _load_bundle_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bundle", PROJECT_ROOT / "dashboards" / "bundle.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bundle = _load_bundle_module()
ASSETS = bundle.read_assets()
CHARTS = sorted(ASSETS["chart"].items())
DATASETS = sorted(ASSETS["dataset"].items())
DASHBOARDS = sorted(ASSETS["dashboard"].items())


def columns_of_marts() -> dict[str, set[str]]:
    """Public tables and their columns, as the models' contracts say."""
    models = [
        model
        for path in MARTS.glob("*.yml")
        for model in yaml.safe_load(path.read_text("utf-8")).get("models", [])
    ]
    return {
        model["name"].removeprefix("dm__"): {column["name"] for column in model["columns"]}
        for model in models
    }


def names_in(expression: str) -> set[str]:
    """The column names in an SQL expression of a metric or a calculated column."""
    without_text = re.sub(r"'[^']*'", "''", expression)
    names = re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", without_text)
    return set(names) - SQL_WORDS


def unknown_columns(dataset: dict[str, Any], known: set[str]) -> set[str]:
    """What a dataset refers to that its table does not have."""
    physical = {
        column["column_name"] for column in dataset["columns"] if "expression" not in column
    }
    expressions = [item["expression"] for item in dataset.get("metrics", [])]
    expressions += [column["expression"] for column in dataset["columns"] if "expression" in column]
    used = {name for expression in expressions for name in names_in(expression)}
    time_column = {dataset["main_dttm_col"]} if "main_dttm_col" in dataset else set()
    return (physical | used | time_column) - known


def columns_asked_by(params: dict[str, Any]) -> Iterator[str]:
    """The dataset columns a chart groups, filters or sorts by."""
    if "x_axis" in params:
        yield params["x_axis"]
    for key in ("groupby", "groupby_b", "groupbyRows", "groupbyColumns", "all_columns"):
        yield from params.get(key, [])
    for condition in params.get("adhoc_filters", []):
        yield condition["subject"]
    for order in params.get("order_by_cols", []):
        yield yaml.safe_load(order)[0]
    yield from params.get("column_config", {})


def metrics_asked_by(params: dict[str, Any]) -> Iterator[str]:
    """The metrics a chart shows or sorts by."""
    for key in ("metric", "timeseries_limit_metric"):
        if key in params:
            yield params[key]
    for key in ("metrics", "metrics_b"):
        yield from params.get(key, [])


@pytest.mark.parametrize(("slug", "dataset"), DATASETS)
def test_dataset_reads_only_columns_of_a_public_model(slug: str, dataset: dict[str, Any]) -> None:
    marts = columns_of_marts()
    assert dataset["table_name"] == slug
    assert slug in marts, f"there is no model dm__{slug}"
    assert unknown_columns(dataset, marts[slug]) == set()


def test_a_misspelt_column_is_found() -> None:
    dataset = {
        "columns": [{"column_name": "amount"}],
        "metrics": [{"expression": "sum(ammount) filter (where code = 'amount_due')"}],
    }
    assert unknown_columns(dataset, {"amount", "code"}) == {"ammount"}


@pytest.mark.parametrize(("slug", "dataset"), DATASETS)
def test_dataset_is_a_table_and_not_a_query(slug: str, dataset: dict[str, Any]) -> None:
    assert not dataset.get("sql"), slug
    assert dataset.get("schema", bundle.SCHEMA) == "dm"


@pytest.mark.parametrize(("slug", "chart"), CHARTS)
def test_chart_asks_only_for_what_its_dataset_defines(slug: str, chart: dict[str, Any]) -> None:
    dataset = ASSETS["dataset"][chart["dataset"]]
    columns = {column["column_name"] for column in dataset["columns"]}
    metrics = {metric["metric_name"] for metric in dataset.get("metrics", [])}
    assert set(columns_asked_by(chart["params"])) <= columns, slug
    assert set(metrics_asked_by(chart["params"])) <= metrics, slug


def test_every_tile_shows_one_kpi_of_the_dictionary() -> None:
    rows = (PROJECT_ROOT / "dbt" / "seeds" / "ods" / "kpi.csv").read_text("utf-8").splitlines()
    codes = {row.split(",", 1)[0] for row in rows[1:]}
    tiles = [
        chart for slug, chart in CHARTS if slug.startswith("kpi-") and "metric" in chart["params"]
    ]
    shown = [
        condition["comparator"]
        for chart in tiles
        for condition in chart["params"]["adhoc_filters"]
        if condition["subject"] == "kpi_code"
    ]
    assert len(shown) == len(tiles) == 5
    assert set(shown) <= codes


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("cycle_id = '2026-10'", 100),
        ("cycle_id = '2026-10' and province_code = '44'", 60),
        ("cycle_id = '2026-10' and province_code in ('11', '44')", None),
        ("province_code = '00'", None),
    ],
    ids=["nation", "one province", "several provinces", "several cycles"],
)
def test_a_kpi_is_the_nations_or_one_provinces_and_never_a_sum(
    condition: str, expected: int | None
) -> None:
    (metric,) = ASSETS["dataset"]["kpi_value"]["metrics"]
    with duckdb.connect() as connection:
        connection.execute(
            "create table kpi_value as select * from (values"
            " ('2026-10', '00', 'arpu', 100), ('2026-10', '11', 'arpu', 140),"
            " ('2026-10', '44', 'arpu', 60), ('2026-09', '00', 'arpu', 90)"
            ") as rows (cycle_id, province_code, kpi_code, value)"
        )
        query = f"select {metric['expression']} from kpi_value where {condition}"
        assert connection.execute(query).fetchone() == (expected,)


@pytest.mark.parametrize(("slug", "dashboard"), DASHBOARDS)
def test_dashboard_shows_known_charts_in_rows_of_twelve_columns(
    slug: str, dashboard: dict[str, Any]
) -> None:
    shown = [chart for row in dashboard["layout"] for chart in row["charts"]]
    assert set(shown) <= set(ASSETS["chart"]), slug
    assert len(shown) == len(set(shown))
    assert {sum(row["charts"].values()) for row in dashboard["layout"]} == {12}


def test_every_chart_is_on_a_dashboard() -> None:
    shown = {
        chart
        for dashboard in ASSETS["dashboard"].values()
        for row in dashboard["layout"]
        for chart in row["charts"]
    }
    assert shown == set(ASSETS["chart"])


@pytest.mark.parametrize(("slug", "dashboard"), DASHBOARDS)
def test_dashboard_filters_by_province_first_and_then_by_cycle(
    slug: str, dashboard: dict[str, Any]
) -> None:
    columns = [entry["column"] for entry in dashboard["filters"]]
    assert columns[:2] == ["province", "cycle_id"], slug
    for entry in dashboard["filters"]:
        dataset = ASSETS["dataset"][entry["dataset"]]
        assert entry["column"] in {column["column_name"] for column in dataset["columns"]}


def test_dashboard_says_how_fresh_its_data_is() -> None:
    datasets = {
        ASSETS["chart"][chart]["dataset"]
        for row in ASSETS["dashboard"]["operations-overview"]["layout"][:1]
        for chart in row["charts"]
    }
    assert {"kpi_value", "data_status"} <= datasets


def test_titles_are_chinese_and_english() -> None:
    titles = [chart["slice_name"] for chart in ASSETS["chart"].values()]
    titles += [dashboard["dashboard_title"] for dashboard in ASSETS["dashboard"].values()]
    titles += [
        entry["name"]
        for dashboard in ASSETS["dashboard"].values()
        for entry in dashboard["filters"]
    ]
    titles += [
        metric["verbose_name"]
        for dataset in ASSETS["dataset"].values()
        for metric in dataset.get("metrics", [])
    ]
    incomplete = [
        title for title in titles if not (CHINESE.search(title) and ENGLISH.search(title))
    ]
    assert incomplete == []


def test_a_metric_is_defined_once() -> None:
    expressions = [
        (slug, " ".join(metric["expression"].split()))
        for slug, dataset in ASSETS["dataset"].items()
        for metric in dataset.get("metrics", [])
    ]
    assert len(expressions) == len(set(expressions))


def test_identity_of_an_asset_follows_from_its_kind_and_slug() -> None:
    for path, text in bundle.build_bundle(URI).items():
        if path == "metadata.yaml":
            continue
        kind, _, slug = path.removesuffix(".yaml").partition("s/")
        expected = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}:{slug}")
        assert yaml.safe_load(text)["uuid"] == str(expected), path


def test_references_in_the_bundle_meet_their_assets() -> None:
    contents = {path: yaml.safe_load(text) for path, text in bundle.build_bundle(URI).items()}
    identities = {content.get("uuid") for content in contents.values()}
    for path, content in contents.items():
        if path.startswith("datasets/"):
            assert content["database_uuid"] in identities
        elif path.startswith("charts/"):
            assert content["dataset_uuid"] in identities
        elif path.startswith("dashboards/"):
            placed = [
                entry["meta"]
                for key, entry in content["position"].items()
                if key.startswith("CHART-")
            ]
            assert {meta["uuid"] for meta in placed} <= identities
            assert len({meta["chartId"] for meta in placed}) == len(placed)


def test_a_filter_reaches_exactly_the_charts_that_have_its_column() -> None:
    text = bundle.build_bundle(URI)["dashboards/operations-overview.yaml"]
    dashboard = yaml.safe_load(text)
    numbers = {
        entry["meta"]["chartId"]: key.removeprefix("CHART-")
        for key, entry in dashboard["position"].items()
        if key.startswith("CHART-")
    }
    by_date = next(
        entry
        for entry in dashboard["metadata"]["native_filter_configuration"]
        if entry["filterType"] == "filter_time"
    )
    reached = set(numbers.values()) - {numbers[each] for each in by_date["scope"]["excluded"]}
    assert reached == {"daily-data", "daily-voice"}


def test_a_chart_of_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    for kind in bundle.DEFAULTS:
        (tmp_path / f"{kind}s").mkdir()
    (tmp_path / "charts" / "lost.yaml").write_text(
        "{slice_name: 迷路 Lost, viz_type: table, dataset: nowhere, params: {}}"
    )
    with pytest.raises(bundle.AssetError, match="no dataset 'nowhere'"):
        bundle.build_bundle(URI, tmp_path)


def test_row_level_rules_name_provinces_and_a_column_the_datasets_have() -> None:
    rules = yaml.safe_load(
        (PROJECT_ROOT / "dashboards" / "assets" / "security.yaml").read_text("utf-8")
    )
    seed = (PROJECT_ROOT / "dbt" / "seeds" / "ods" / "province.csv").read_text("utf-8")
    codes = {line.split(",", 1)[0] for line in seed.splitlines()[1:]}
    assert set(rules["provinces"]) <= codes - {"00"}
    guarded = {
        slug
        for slug, dataset in ASSETS["dataset"].items()
        if rules["province_column"] in {column["column_name"] for column in dataset["columns"]}
    }
    assert guarded == {"kpi_value", "daily_usage", "revenue", "customer_score"}
