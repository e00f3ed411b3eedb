"""Superset's configuration: found through SUPERSET_CONFIG_PATH, values from the environment.

Set by ``tollhouse.services.superset``:

* TOLLHOUSE_SECRET_KEY signs sessions;
* TOLLHOUSE_SUPERSET_METADATA_URL is where Superset keeps its own tables;
* TOLLHOUSE_SUPERSET_HOME is its folder, for cached results.
"""

import copy
import os
from pathlib import Path

from superset.config import TALISMAN_CONFIG as _TALISMAN_CONFIG
from superset.config import THEME_DEFAULT as _THEME_DEFAULT

SECRET_KEY = os.environ["TOLLHOUSE_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["TOLLHOUSE_SUPERSET_METADATA_URL"]
WTF_CSRF_ENABLED = True

APP_NAME = "Tollhouse"
BABEL_DEFAULT_LOCALE = "zh"
LANGUAGES = {
    "zh": {"flag": "cn", "name": "简体中文"},
    "en": {"flag": "us", "name": "English"},
}
LOGO_TARGET_PATH = "/superset/dashboard/operations-overview/"

# The one palette; light enough to print, distinct for the colour-blind, blue first.
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {
        "id": "tollhouse",
        "description": "",
        "label": "Tollhouse",
        "isDefault": True,
        "colors": [
            "#1F5FA8", "#E2872B", "#3E9C8F", "#B6465F", "#7A6FB0", "#8A9A3B", "#5BA4D6", "#6B7280",
        ],
    }
]  # fmt: skip
THEME_DEFAULT = copy.deepcopy(_THEME_DEFAULT)
THEME_DEFAULT["token"] |= {"brandAppName": APP_NAME, "colorPrimary": "#1F5FA8"}
THEME_DARK = None

# Results are kept for a minute: marts change when the pipeline publishes, and a refresh must show.
DATA_CACHE_CONFIG = {
    "CACHE_TYPE": "FileSystemCache",
    "CACHE_DIR": str(Path(os.environ["TOLLHOUSE_SUPERSET_HOME"]) / "cache"),
    "CACHE_DEFAULT_TIMEOUT": 60,
    "CACHE_KEY_PREFIX": "data_",
}

# Nothing is fetched from or reported to other machines: the built pages ask for a tracking pixel.
TALISMAN_CONFIG = copy.deepcopy(_TALISMAN_CONFIG)
TALISMAN_CONFIG["content_security_policy"]["img-src"] = ["'self'", "blob:", "data:"]
TALISMAN_CONFIG["content_security_policy"]["connect-src"] = ["'self'"]
