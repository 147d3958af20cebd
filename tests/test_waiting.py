"""An open incident says since when nothing bad was seen, and what has to happen before it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from monitor.incidents import Rules
from monitor.models import Check, IncidentState, Result
from monitor.waiting import waits_for
from tests.test_incidents import APP, World, day, days_of, result


def told(whole: str, segment: str, *, reason: str = "") -> str:
    """What the incident of these letters waits for, in words."""
    world = World(Rules())
    found: list[Result] = []
    for number, letters in enumerate(zip(whole, segment, strict=True)):
        for letter, name in zip(letters, (None, APP), strict=True):
            if letter == " ":
                continue
            made = result(letter, day(number), None, check=Check.PERFORMANCE, segment=name)
            found.append(replace(made, detail={"reason": reason}) if letter == "c" and reason else made)
    days_of(world, whole, segment)
    waiting = waits_for(world.only, found, recover=2)
    return "" if waiting is None else waiting.words(lambda at: f"{at:%-d %b}")


@pytest.mark.parametrize(
    ("whole", "segment", "words"),
    [
        pytest.param("AAA", "   ", "Last bad window: 3 Jan. It is over after 2 good windows in a row, still awaited "
                     "from all rows.", id="nothing since"),
        pytest.param("AAAo", "    ", "Last bad window: 3 Jan. It is over after 2 good windows in a row, still awaited "
                     "from all rows (1 of 2 so far).", id="half of it"),
        pytest.param("AAoooo", "AAAccc", "Last bad window: 3 Jan. It is over after 2 good windows in a row, still "
                     "awaited from channel=app (cannot tell since 4 Jan: 148 labels, min_labels is 200).",
                     id="a segment that went on alone and fell silent"),
        pytest.param("AAAoo", "AAAcc", "", id="over"),
    ],
)  # fmt: skip
def test_an_open_incident_says_what_it_waits_for(whole: str, segment: str, words: str) -> None:
    assert told(whole, segment, reason="148 labels, min_labels is 200") == words


def test_what_comes_again_and_what_has_no_rows_say_so() -> None:
    world = World(Rules())
    days_of(world, "AA", "  ")
    again = replace(world.only, detail=world.only.detail | {"again": datetime.isoformat(day(9).start)})
    assert "is not over before that of 10 Jan" in waits_for(again, [], recover=2).words(lambda at: f"{at:%-d %b}")  # type: ignore[union-attr]
    silent = replace(world.only, detail=world.only.detail | {"kind": "no_data"})
    assert "a good window, still awaited from the rows" in waits_for(silent, [], recover=2).words(str)  # type: ignore[union-attr]
    assert waits_for(replace(world.only, state=IncidentState.RESOLVED), [], recover=2) is None
