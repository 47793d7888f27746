"""The routes of optuna-dashboard 0.21.0 that are let through: read in its source, and judged.

All others are refused, also what a later version adds; a test compares with the installed one.
"""

from __future__ import annotations

from search.dashboard.bodies import Artifact, Attributes, Body, Deletion, Ending, NewStudy, Note

Route = tuple[str, str]  # method and rule, as bottle has them

_STUDY, _TRIAL = "<study_id:int>", "<trial_id:int>"
_ARTIFACT = "<artifact_id:re:[0-9a-fA-F-]+>"
PAGE: Route = ("GET", "/dashboard<:re:(/.*)?>")
CSV: Route = ("GET", f"/csv/{_STUDY}")
STATIC = frozenset({("GET", "/static/<filename:path>"), ("GET", "/favicon.ico")})
ARTIFACTS = frozenset(
    {
        ("GET", f"/artifacts/{_STUDY}/{_ARTIFACT}"),
        ("GET", f"/artifacts/{_STUDY}/{_TRIAL}/{_ARTIFACT}"),
    }
)
READS = frozenset(
    {
        PAGE,
        CSV,
        ("GET", "/"),
        ("GET", "/incompatible-rdb-schema"),
        ("GET", "/api/meta"),
        ("GET", "/api/studies"),
        ("GET", f"/api/studies/{_STUDY}"),
        ("GET", f"/api/studies/{_STUDY}/param_importances"),
        ("GET", f"/api/studies/{_STUDY}/plot/<plot_type>"),
        *STATIC,
        *ARTIFACTS,
    }
)
CHANGES: dict[Route, type[Body]] = {
    ("POST", "/api/studies"): NewStudy,
    ("DELETE", f"/api/studies/{_STUDY}"): Deletion,
    ("PUT", f"/api/studies/{_STUDY}/note"): Note,
    ("PUT", f"/api/studies/{_STUDY}/{_TRIAL}/note"): Note,
    ("POST", f"/api/trials/{_TRIAL}/tell"): Ending,
    ("POST", f"/api/trials/{_TRIAL}/user-attrs"): Attributes,
    ("POST", f"/api/artifacts/{_STUDY}"): Artifact,
    ("POST", f"/api/artifacts/{_STUDY}/{_TRIAL}"): Artifact,
    ("DELETE", f"/api/artifacts/{_STUDY}/{_ARTIFACT}"): Body,
    ("DELETE", f"/api/artifacts/{_STUDY}/{_TRIAL}/{_ARTIFACT}"): Body,
}
REFUSED_ROUTE = (  # renaming, preferences, language models, upgrading the database
    "This change is not offered: renaming would lose the learning curves, and studies here are "
    "judged by their loss alone."
)
