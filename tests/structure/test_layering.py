"""The rooms keep to their place: imports in Python, references in SQL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse.transform import run_dbt

MODELS = PROJECT_ROOT / "dbt" / "models"
LAYER_READS = {
    "ods": {"raw", "ods"},
    "mediation": {"raw", "ods", "mediation"},
    "billing": {"mediation", "ods", "billing"},
    "settlement": {"mediation", "ods", "settlement"},
    "mid": {"ods", "mediation", "billing", "settlement", "mid"},
    "dm": {"mid", "dm"},
}
# Functions and syntax of one engine only; what differs between engines is a macro in macros/engine.
DIALECT = re.compile(
    r"""\btarget\.(type|name)\b|::|\bqualify\b|\btry_cast\b|\bstrftime\b|\bto_char\b|\bdate_format\b
    |\bgenerate_series\b|\bunnest\b|\bexplode\b|\bgroup\s+by\s+all\b|\bdistinct\s+on\b|\bmedian\(
    |\bmax_by\b|\barg_max\b|\blist_\w+\(|\bregexp_\w+\(|\bhugeint\b|\btimezone\(|\bat\s+time\s+zone\b
    |\bstring_agg\b|\blistagg\b|\bdate_diff\b|\bdatediff\(|\bto_timestamp\b|\bepoch\w*\b|\s/\s""",
    re.VERBOSE | re.IGNORECASE,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict:
    settings = Settings(home=tmp_path_factory.mktemp("manifest"))
    outcome = run_dbt(settings, ["parse"])
    assert outcome.success, outcome.exception
    return json.loads((settings.home / "dbt" / "embedded" / "manifest.json").read_text())


def models(manifest: dict) -> list[dict]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]


def test_python_rooms_import_only_what_stands_below_them() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_dag_files_import_only_airflow_and_the_pipeline() -> None:
    for path in sorted((PROJECT_ROOT / "dags").glob("*.py")):
        imported = set(re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE))
        foreign = {
            name
            for name in imported
            if name.split(".")[0] not in sys.stdlib_module_names
            and not name.startswith(("airflow.sdk", "tollhouse.pipeline", "__future__"))
            and name != "tollhouse"
        }
        assert not foreign, f"{path.name} imports {foreign}"


def test_models_read_only_the_layers_below_them(manifest: dict) -> None:
    wrong = []
    for node in models(manifest):
        layer = node["schema"]
        for parent in node["depends_on"]["nodes"]:
            kind = parent.split(".")[0]
            read = "raw" if kind == "source" else manifest["nodes"][parent]["schema"]
            if read not in LAYER_READS[layer]:
                wrong.append(f"{node['name']} reads {parent}")
    assert models(manifest)
    assert not wrong, "\n".join(wrong)


def test_every_model_states_its_grain_and_tests_that_it_is_unique(manifest: dict) -> None:
    tests = [test for test in manifest["nodes"].values() if test["resource_type"] == "test"]
    tested = {
        test["attached_node"]
        for test in tests
        if (test.get("test_metadata") or {}).get("name") in ("unique", "unique_combination")
    }
    tested_by_digest = {test["config"]["meta"].get("is_uniqueness_test_of") for test in tests}
    missing = []
    for node in models(manifest):
        first_lines = node["raw_code"][:400].lower()
        if not node["config"]["meta"].get("grain") or "-- grain:" not in first_lines:
            missing.append(f"{node['name']}: grain is not stated in header and config.meta")
        is_tested = node["unique_id"] in tested or node["name"] in tested_by_digest
        if not is_tested and node["config"]["materialized"] != "view":
            missing.append(f"{node['name']}: no uniqueness test")
        if not node["description"]:
            missing.append(f"{node['name']}: no description")
    assert not missing, "\n".join(missing)


def test_only_dm_is_public_and_all_of_it_is_under_contract(manifest: dict) -> None:
    for node in models(manifest):
        is_dm = node["schema"] == "dm"
        assert (node["access"] == "public") == is_dm, node["name"]
        assert node["contract"]["enforced"] == is_dm, node["name"]


def test_a_model_is_one_sql_and_one_yaml_named_after_layer_and_entity() -> None:
    for path in sorted(MODELS.rglob("*.sql")):
        assert path.stem.startswith(f"{path.parent.name}__"), path.name
        assert path.with_suffix(".yml").exists(), f"{path.name} has no YAML beside it"


def test_models_contain_no_dialect() -> None:
    found = []
    for path in sorted(MODELS.rglob("*.sql")):
        found += [f"{path.name}: {word}" for word in dialect_in(path.read_text())]
    assert not found, "\n".join(found)


def test_dialect_in_a_model_is_found() -> None:
    model = (
        "-- Grain: one row; an aside :: is no cast.\nselect {{ x }}, a::int, strftime(b), c / d\n"
    )
    assert dialect_in(model) == ["::", "strftime", "/"]


def dialect_in(model: str) -> list[str]:
    """What of one engine only stands in a model's SQL, outside comments, texts and Jinja."""
    sql = re.sub(r"\{#.*?#\}|\{\{.*?\}\}", "", model, flags=re.DOTALL)
    sql = re.sub(r"--[^\n]*|'[^'\n]*'", "", sql)
    return [match.group(0).strip() for match in DIALECT.finditer(sql)]


def test_engine_macros_stand_one_per_file_with_a_header() -> None:
    for path in sorted((PROJECT_ROOT / "dbt" / "macros" / "engine").glob("*.sql")):
        text = path.read_text()
        assert text.startswith("{#"), f"{path.name} has no header"
        assert f"macro {path.stem}(" in text, path.name
        assert f"macro default__{path.stem}(" in text, path.name
