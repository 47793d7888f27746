"""The study that a command means if none is named; does not load Optuna, so `--status` is quick."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

STUDIES = """
    SELECT s.study_id, s.study_name,
        max(coalesce(t.datetime_complete, t.datetime_start)) AS changed_at,
        (SELECT max(e.reported_at) FROM epochs e WHERE e.study_id = s.study_id) AS reported_at
    FROM studies s JOIN trials t ON t.study_id = s.study_id
    JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = 'spec'
    WHERE t.datetime_start IS NOT NULL GROUP BY s.study_id, s.study_name
"""


def latest_study(connection: Connection) -> str | None:
    """The name of the study in which a trial last began, reported or ended; None if none began."""
    from sqlalchemy import text

    def worked_on(row: Any) -> tuple[float, int]:
        changed_at = datetime.fromisoformat(str(row.changed_at))  # Optuna's times are local
        return max(changed_at.timestamp(), row.reported_at or 0.0), row.study_id

    rows = connection.execute(text(STUDIES)).all()
    return max(rows, key=worked_on).study_name if rows else None
