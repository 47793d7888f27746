"""Every route of optuna-dashboard 0.21.0: read in its source, and judged.

What a later version adds is refused until it stands here; a test compares this list with the
installed application's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from search.dashboard import bodies
from search.dashboard.bodies import Check

Route = tuple[str, str]  # method and rule, as bottle has them

PAGE: Route = ("GET", "/dashboard<:re:(/.*)?>")
CSV: Route = ("GET", "/csv/<study_id:int>")
STATIC: frozenset[Route] = frozenset({("GET", "/static/<filename:path>"), ("GET", "/favicon.ico")})
ARTIFACTS: frozenset[Route] = frozenset(
    {
        ("GET", "/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"),
        ("GET", "/artifacts/<study_id:int>/<trial_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"),
    }
)
READS: frozenset[Route] = (
    frozenset(
        {
            PAGE,
            CSV,
            ("GET", "/"),
            ("GET", "/incompatible-rdb-schema"),
            ("GET", "/api/meta"),
            ("GET", "/api/studies"),
            ("GET", "/api/studies/<study_id:int>"),
            ("GET", "/api/studies/<study_id:int>/param_importances"),
            ("GET", "/api/studies/<study_id:int>/plot/<plot_type>"),
        }
    )
    | STATIC
    | ARTIFACTS
)

_ARTIFACT = "<artifact_id:re:[0-9a-fA-F-]+>"
CHANGES: Mapping[Route, Check] = {
    ("POST", "/api/studies"): bodies.new_study,
    ("DELETE", "/api/studies/<study_id:int>"): bodies.deletion,
    ("PUT", "/api/studies/<study_id:int>/note"): bodies.note,
    ("PUT", "/api/studies/<study_id:int>/<trial_id:int>/note"): bodies.note,
    ("POST", "/api/trials/<trial_id:int>/tell"): bodies.tell,
    ("POST", "/api/trials/<trial_id:int>/user-attrs"): bodies.attributes,
    ("POST", "/api/artifacts/<study_id:int>"): bodies.artifact,
    ("POST", "/api/artifacts/<study_id:int>/<trial_id:int>"): bodies.artifact,
    ("DELETE", f"/api/artifacts/<study_id:int>/{_ARTIFACT}"): bodies.nothing,
    ("DELETE", f"/api/artifacts/<study_id:int>/<trial_id:int>/{_ARTIFACT}"): bodies.nothing,
}

# Refused also with --edit, and why.
_NO_PREFERENCES = "Studies here are judged by their loss, not by preferences."
_NO_LLM = "No language model is connected."
CLOSED: Mapping[Route, str] = {
    ("POST", "/api/studies/<study_id:int>/rename"): (
        "Renaming would copy the trials without their learning curves and delete the originals."
    ),
    ("POST", "/incompatible-rdb-schema"): (
        "Upgrade a copy of the database with: optuna storage upgrade --storage URL"
    ),
    ("PUT", "/api/studies/<study_id:int>/preference_feedback_component"): _NO_PREFERENCES,
    ("POST", "/api/studies/<study_id:int>/preference"): _NO_PREFERENCES,
    ("POST", "/api/studies/<study_id:int>/preference/<history_id>"): _NO_PREFERENCES,
    ("DELETE", "/api/studies/<study_id:int>/preference/<history_id>"): _NO_PREFERENCES,
    ("POST", "/api/studies/<study_id:int>/<trial_id:int>/skip"): _NO_PREFERENCES,
    ("POST", "/api/llm/trial_filter_query"): _NO_LLM,
    ("POST", "/api/llm/generate_plotly_graph_query"): _NO_LLM,
    ("POST", "/api/llm/re_generate_plotly_graph_query"): _NO_LLM,
}
