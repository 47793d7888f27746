"""The routes of optuna-dashboard 0.21.0 that are let through: read in its source, and judged.

All others are refused, also what a later version adds; a test compares with the installed one.
"""

from __future__ import annotations

from search.dashboard.bodies import Attributes, Body, Deletion, Note

Route = tuple[str, str]  # method and rule, as bottle has them

_STUDY = "/<study_id:int>"
_TRIAL = "/<trial_id:int>"
_ARTIFACT = "/<artifact_id:re:[0-9a-fA-F-]+>"
PAGE, CSV = "/dashboard<:re:(/.*)?>", f"/csv{_STUDY}"
READS = {
    ("GET", rule)
    for rule in (
        "/",
        PAGE,
        CSV,
        "/incompatible-rdb-schema",
        "/api/meta",
        "/api/studies",
        f"/api/studies{_STUDY}",
        f"/api/studies{_STUDY}/param_importances",
        f"/api/studies{_STUDY}/plot/<plot_type>",
        "/static/<filename:path>",
        "/favicon.ico",
        f"/artifacts{_STUDY}{_ARTIFACT}",
        f"/artifacts{_STUDY}{_TRIAL}{_ARTIFACT}",
    )
}
CHANGES: dict[Route, type[Body]] = {
    ("DELETE", f"/api/studies{_STUDY}"): Deletion,
    ("PUT", f"/api/studies{_STUDY}/note"): Note,
    ("PUT", f"/api/studies{_STUDY}{_TRIAL}/note"): Note,
    ("POST", f"/api/trials{_TRIAL}/user-attrs"): Attributes,
}
