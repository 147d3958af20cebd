"""What a run of generated logs came to: found in time or not, dated well or not."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.logs import found_within, onset_of, table


def line(
    opened: str, onset: tuple[str, str] | None, *, incident: str = "unit_change", **changes: Any
) -> dict[str, Any]:
    told = {
        "check": "feature_drift",
        "features": ["x"],
        "opened": f"2024-02-{opened}T00:00:00+00:00",
        "onset": onset and [f"2024-02-{day}T00:00:00+00:00" for day in onset],
    }
    base = {"data": "elec2", "incident": incident, "onset": "2024-02-06T18:00:00", "culprits": ["x"]}
    return base | {"incidents": [told]} | changes


@pytest.mark.parametrize(("opened", "soon"), [("05", False), ("06", True), ("08", True), ("09", False)])
def test_an_incident_is_in_time_from_the_window_of_the_onset_to_the_second_after_it(opened: str, soon: bool) -> None:
    assert found_within(line(opened, None)) is soon


def test_only_an_incident_of_the_culprit_dates_the_onset() -> None:
    assert onset_of(line("06", ("06", "08"))) == (True, 2.0)
    assert onset_of(line("06", ("07", "08"))) == (False, 1.0)
    assert onset_of(line("06", ("06", "08"), culprits=["y"])) is None
    assert onset_of(line("06", None)) is None


def test_the_table_counts_logs_by_set_and_leaves_out_those_that_could_not_be_made() -> None:
    found = [line("06", ("06", "08")), line("09", ("06", "10")), line("06", None, failed="no categories")]
    found.append(line("06", None, incident="none"))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table(found).splitlines()[2:]]
    assert ["unit_change", "elec2", "2", "2", "1", "2", "2", "1", "4, at most 4"] in rows
    assert ["none", "elec2", "1", "1", "", "", "", "", ""] in rows
    assert len(rows) == 4, "each kind once more for all sets"
