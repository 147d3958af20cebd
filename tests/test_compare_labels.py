"""Versions compared by labels of every kind: classes, numbers, several labels, and labels that can never be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import DAY, MODEL, START, compared, config, lived, requests, rows_apart, write

from monitor.config_file import ConfigErrors
from monitor.config_file import load as load_config
from monitor.models import Verdict
from monitor.reports.site import build_site

PETS = ("cat", "dog", "owl")
PER_DAY = 200


def pets(*, days: int, skill: float, seed: int = 3) -> list[dict[str, Any]]:
    """Pets with the species and weight that two versions guess; ``skill`` is how often the challenger knows better."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(days):
        for i in range(PER_DAY):
            true, kg = str(rng.choice(PETS)), float(rng.gamma(4, 1.5))
            first = true if rng.random() < 0.6 else str(rng.choice(PETS))
            second = true if rng.random() < skill else first
            at = START + day * DAY + timedelta(seconds=1 + int(86000 * i / PER_DAY))
            said = [
                {"species": species, "kg_guess": kg + rng.normal(0, 1.5 if at_ == 0 else 1.5 - skill)}
                | {f"p_{name}": 0.7 if name == species else 0.15 for name in PETS}
                for at_, species in enumerate((first, second))
            ]
            rows.append({"key": f"r{day}-{i}", "at": at, "age": float(rng.gamma(2, 2)), "true": true, "kg": kg, "said": said})  # fmt: skip
    return rows


def by_rows(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"request_id": each["key"], "at": each["at"] + timedelta(milliseconds=place), "age": each["age"], "model_version": name}
        | each["said"][place]
        for each in asked
        for place, name in enumerate(("v3", "v4"))
    ]  # fmt: skip


def by_columns(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"request_id": each["key"], "at": each["at"], "age": each["age"]}
        | each["said"][0]
        | {f"{name}_v4": value for name, value in each["said"][1].items()}
        for each in asked
    ]


def truths(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"request_id": each["key"], "true": each["true"], "kg": each["kg"], "landed": each["at"] + DAY}
        for each in asked
    ]


PET_MODEL: dict[str, Any] = {
    "prediction": "species",
    "threshold": None,
    "labels": {
        "table": "labels",
        "label": "true",
        "time": "landed",
        "delay": "2d",
        "task": "multiclass",
        "scores": {name: f"p_{name}" for name in PETS},
        "also": [
            {"name": "weight", "table": "labels", "label": "kg", "time": "landed", "delay": "2d", "task": "regression",
             "prediction": "kg_guess"},
        ],
    },
}  # fmt: skip
SHADOW = {"v4": {"prediction": "species_v4", "scores": {name: f"p_{name}_v4" for name in PETS},
                 "also": {"weight": "kg_guess_v4"}}}  # fmt: skip


def test_classes_and_numbers_are_compared_each_by_its_own_label(tmp_path: Path) -> None:
    asked = pets(days=7, skill=0.5)
    write(tmp_path / "log.db", predictions=by_rows(asked), labels=truths(asked))
    service = lived(tmp_path, config(tmp_path, **PET_MODEL, compare={"champion": "v3"}), until=7)
    own = [r for r in compared(service, "error_difference") if r.value is not None][-1]
    told = [each for each in asked if START + 2 * DAY <= each["at"] < START + (2 + own.detail["n_windows"]) * DAY]
    wrong = [np.mean([each["said"][at]["species"] != each["true"] for each in told]) for at in (0, 1)]
    assert own.value == pytest.approx(wrong[1] - wrong[0])
    assert (own.feature, own.detail["method"], own.detail["standing"]) == (None, "exact", "better")
    assert "error rate −" in own.detail["what"]
    loss = [r for r in compared(service, "log_loss_difference") if r.value is not None][-1]
    given = [[np.log(each["said"][at][f"p_{each['true']}"]) for each in told] for at in (0, 1)]
    assert loss.value == pytest.approx(-np.mean(np.subtract(given[1], given[0])))
    weight = [r for r in compared(service, "absolute_error_difference") if r.value is not None][-1]
    errors = [np.abs([each["said"][at]["kg_guess"] - each["kg"] for each in told]) for at in (0, 1)]
    assert weight.value == pytest.approx(np.mean(errors[1] - errors[0]))
    assert (weight.feature, weight.detail["label"], weight.detail["method"]) == ("weight", "weight", "asymptotic")
    assert (weight.detail["standing"], weight.n_current) == ("better", len(told))
    assert compared(service, "squared_error_difference")[-1].feature == "weight"
    # Of numbers there are no decisions to disagree on, of classes no scores; who answered is told once.
    assert {r.feature for r in compared(service, "decision_disagreement")} == {None}
    assert {r.feature for r in compared(service, "score_difference")} == {"weight"}
    assert {r.feature for r in compared(service, "unpaired_rate")} == {None}
    assert service.store.incidents("credit") == []


def test_shadow_columns_of_classes_and_numbers_say_the_same_as_rows_of_their_own(tmp_path: Path) -> None:
    asked = pets(days=6, skill=0.3)
    found = []
    for name, rows, compare in (
        ("rows", by_rows(asked), {"champion": "v3"}),
        ("columns", by_columns(asked), {"champion": "v3", "shadow": SHADOW}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "log.db", predictions=rows, labels=truths(asked))
        service = lived(folder, config(folder, **PET_MODEL, compare=compare), until=6)
        kept = sorted((r for r in service.store.results("credit") if r.of_versions), key=lambda r: (r.window, r.metric))
        found.append([(r.metric, r.feature, r.value, r.interval) for r in kept])
        assert not {r.feature for r in service.store.results("credit") if (r.feature or "").endswith("_v4")}
    assert [each[:2] for each in found[0]] == [each[:2] for each in found[1]]
    for first, second in zip(*found, strict=True):
        assert first[2] == pytest.approx(second[2])
    assert any(value is not None for _, _, value, _ in found[0])


def test_a_shadow_that_said_nothing_of_a_label_is_not_compared_by_it(tmp_path: Path) -> None:
    asked = pets(days=4, skill=0.3)
    write(tmp_path / "log.db", predictions=by_columns(asked), labels=truths(asked))
    compare = {"champion": "v3", "shadow": {"v4": "species_v4"}}
    service = lived(tmp_path, config(tmp_path, **PET_MODEL, compare=compare), until=4)
    found = [r for r in service.store.results("credit") if r.of_versions]
    assert {r.feature for r in found} == {None}
    assert {r.metric for r in found} >= {"error_difference", "decision_disagreement"}


def test_the_pages_name_the_label_and_say_bounds_to_be_bounds(tmp_path: Path) -> None:
    asked = pets(days=6, skill=0.5)
    write(tmp_path / "log.db", predictions=by_rows(asked), labels=truths(asked))
    told = config(tmp_path, **PET_MODEL, compare={"champion": "v3"})
    service = lived(tmp_path, told, until=6)
    build_site(service.store, told, now=START + 6 * DAY + timedelta(hours=1), out=tmp_path / "site")
    page = (tmp_path / "site" / "credit" / "index.html").read_text()
    assert "v4 beside v3: weight" in page
    assert "Mean absolute error, challenger less champion" in page
    assert "mean absolute error −0." in page


# --- labels that can never be ----------------------------------------------------------------------


def refused(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels of the requests that the champion let through."""
    return [
        {"request_id": each["key"], "label": each["label"], "landed": each["at"] + DAY}
        for each in asked
        if each["scores"][0] < 0.5
    ]


@pytest.mark.parametrize("by", ["decision", "column"])
def test_a_challenger_is_not_judged_by_the_requests_that_the_champion_let_through_alone(
    tmp_path: Path, by: str
) -> None:
    asked = requests(days=8, skill=0.9)
    rows = [row | {"open": int(each["scores"][0] < 0.5)} for each, row in zip([e for e in asked for _ in "12"], rows_apart(asked), strict=True)]  # fmt: skip
    write(tmp_path / "log.db", predictions=rows, labels=refused(asked))
    when = {"decision": "negative"} if by == "decision" else {"column": "open", "is": 1}
    labels = MODEL["labels"] | {"only_when": when}
    more = {"prediction": "declined", "features": {"exclude": ["open"]}}
    told = config(tmp_path, labels=labels, compare={"champion": "v3"}, **more)
    service = lived(tmp_path, told, until=8)
    newest = [r for r in compared(service, "error_difference") if r.interval is not None][-1]
    taken = [each for each in asked if START + 2 * DAY <= each["at"] < START + (2 + newest.detail["n_windows"]) * DAY]
    low = high = 0.0
    for each in taken:
        first, second = (score >= 0.5 for score in each["scores"])
        if first:  # refused: of these the challenger errs where it differs, or it does not
            low, high = low - (first != second), high + (first != second)
        else:
            low, high = (end + (second != each["label"]) - (first != each["label"]) for end in (low, high))
    assert newest.value is None
    assert newest.n_current == len(taken)
    assert newest.interval == pytest.approx((low / len(taken), high / len(taken)))
    assert newest.detail["bounds"] == "never labelled"
    chance = newest.detail["bounds_with_chance"]
    assert chance[0] < newest.interval[0] < newest.interval[1] < chance[1]
    assert newest.detail["never_labelled"] == sum(each["scores"][0] >= 0.5 for each in taken)
    assert "can never be labelled: error rate between" in newest.detail["what"]
    assert newest.label_coverage == 1
    # Of the champion's positive decisions none is ever labelled: nothing is said of recall but what it can be.
    recall = [r for r in compared(service, "recall_difference") if r.interval is not None][-1]
    assert (recall.value, recall.verdict) == (None, Verdict.CANNOT_TELL)
    assert "no interval is offered" in recall.detail["reason"]
    build_site(service.store, told, now=START + 8 * DAY + timedelta(hours=1), out=tmp_path / "site")
    page = (tmp_path / "site" / "credit" / "index.html").read_text()
    assert "can never be labelled: error rate between" in page
    assert "whatever their labels would be" in page


def test_absent_labels_count_for_the_requests_that_could_have_one_only(tmp_path: Path) -> None:
    asked = requests(days=6)
    landed = [row for each, row in zip([e for e in asked if e["scores"][0] < 0.5], refused(asked), strict=True) if each["label"]]  # fmt: skip
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed)
    labels = MODEL["labels"] | {"only_when": {"decision": "negative"}, "absent_means": 0}
    told = config(tmp_path, labels=labels, prediction="declined", compare={"champion": "v3"})
    service = lived(tmp_path, told, until=9)
    newest = [r for r in compared(service, "error_difference") if r.interval is not None][-1]
    taken = [each for each in asked if each["at"] >= START + 2 * DAY]
    assert newest.n_current == len(taken)
    assert newest.detail["never_labelled"] == sum(each["scores"][0] >= 0.5 for each in taken)


# --- the config ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "compare", "words"),
    [
        ("{task: regression}", "{metrics: [brier]}", "'brier' is not for regression labels"),
        ("{task: multiclass}", "{metrics: [absolute_error]}", "'absolute_error' is not for multiclass labels"),
        ("{}", "{metrics: [squared_error]}", "'squared_error' is not for binary labels"),
        ("{}", "{shadow: {v4: {score: s, also: {weight: w}}}}", "unknown label 'weight'"),
    ],
)
def test_a_comparison_that_its_labels_cannot_give_is_refused(
    tmp_path: Path, labels: str, compare: str, words: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: {main: 'sqlite:///logs.db'}\n"
        f"models: {{churn: {{table: p, time: at, key: id, prediction: y, labels: {labels}, compare: {compare}}}}}\n"
    )
    with pytest.raises(ConfigErrors) as found:
        load_config(path, env={})
    assert words in str(found.value)
