"""Is a label what the config takes it for?  Its values, as a sample shows them, against `labels.task`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monitor.config import ModelConfig
from monitor.sources import canonical

MANY = 20
"""More distinct numbers than these are no classes."""
MOST_CLASSES = 100
ENOUGH = 20
"""So many labels of one class are no chance."""
SHOWN = 5


@dataclass(frozen=True)
class Remark:
    """What does not fit, and what to do; ``broken``: no metric would mean anything."""

    words: str
    broken: bool = False


@dataclass(frozen=True)
class Seen:
    """Values of a column, and where it is; missing ones are left out."""

    where: str
    values: Sequence[Any]

    @property
    def distinct(self) -> dict[str, str]:
        """How each value is compared → how it is written, in order of first sight."""
        found: dict[str, str] = {}
        for value in self.values:
            found.setdefault(canonical(value), str(value))
        return found

    @property
    def n_numbers(self) -> int:
        return sum(_is_number(value) for value in self.values)


def remarks(model: ModelConfig, label: Seen, predicted: Seen | None = None) -> list[Remark]:
    """What of the label's values, and of the predicted ones, does not go with its task; nothing before there are any.

    Parameters
    ----------
    model
        As one of its labels sees it.
    predicted
        The column with the decision, or of classes with the predicted one.
    """
    if model.labels is None or not label.values:
        return []
    if model.labels.task == "regression":
        return _of_numbers(label)
    if model.labels.task == "multiclass":
        return _of_classes(model, label, predicted)
    return [*_of_flags(model, label), *_of_decisions(model, predicted)]


def _of_flags(model: ModelConfig, label: Seen) -> list[Remark]:
    found, positive = label.distinct, f"`positive: {model.positive}`"
    there = canonical(model.positive) in found
    told = f"{label.where} holds {_listed(found)}"
    other, number = "`task: multiclass` for classes", label.n_numbers == len(label.values) and len(found) > MANY
    if number:
        return [Remark(f"{told} under `task: binary`: write `task: regression` for a number", broken=True)]
    if len(found) > 2 and there:
        return [Remark(f"{told} under `task: binary`: all but {positive} count as negative; or write {other}")]
    if len(found) > 2:
        todo = f"write {other}, or `positive:` with the value that is"
        return [
            Remark(f"{told} under `task: binary`: none is {positive}, so all would be negative; {todo}", broken=True)
        ]
    if not there and len(found) == 2:
        todo = "write `positive:` with the one that is"
        return [Remark(f"{told}: none is {positive}, so all would be negative; {todo}", broken=True)]
    return _of_one_class(model, label, told) if len(found) == 1 else []


def _of_one_class(model: ModelConfig, label: Seen, told: str) -> list[Remark]:
    [only], labels = label.distinct, model.labels
    if only != canonical(model.positive):
        odd = f"{told} only, which is not `positive: {model.positive}`: is that spelled as the label is?"
        return [] if only in ("0", "-1") else [Remark(odd)]
    apart = labels is not None and labels.absent_means is None and (labels.table or labels.query) is not None
    if not apart or len(label.values) < ENOUGH:
        return []
    todo = "write `labels.absent_means` with the other class"
    return [Remark(f"{told} only: where a prediction without a label is a negative, {todo}")]


def _of_decisions(model: ModelConfig, predicted: Seen | None) -> list[Remark]:
    if predicted is None or len(found := predicted.distinct) < 2 or canonical(model.positive) in found:
        return []
    told = f"{predicted.where} holds {_listed(found)}: none is `positive: {model.positive}`, so no decision would be"
    return [Remark(f"{told}; write `positive:` as labels and decisions are spelled", broken=True)]


def _of_numbers(label: Seen) -> list[Remark]:
    found, rest = label.distinct, len(label.values) - label.n_numbers
    told = f"{label.where} holds {_listed(found)}"
    if not label.n_numbers:
        other = "`task: binary` with `positive:`" if len(found) <= 2 else "`task: multiclass`"
        return [Remark(f"{told} under `task: regression`, and no number: write {other}", broken=True)]
    if len(found) <= 2 and set(found) <= {"0", "1", "-1"}:
        return [Remark(f"{told} only, under `task: regression`: write `task: binary`, if that is true and false")]
    if rest:
        share = f"{rest / len(label.values):.0%}"
        return [Remark(f"{share} of {label.where} are no numbers: under `task: regression` they are left out")]
    return []


def _of_classes(model: ModelConfig, label: Seen, predicted: Seen | None) -> list[Remark]:
    found, told = label.distinct, []
    fractions = any(not float(value).is_integer() for value in label.values if _is_number(value))
    holds = f"{label.where} holds {_listed(found)}"
    if label.n_numbers == len(label.values) and len(found) > MANY and (fractions or len(found) > MOST_CLASSES):
        told.append(Remark(f"{holds} under `task: multiclass`: write `task: regression`, if that is a number"))
    elif len(found) > MOST_CLASSES:
        told.append(Remark(f"{holds}: only {MOST_CLASSES} classes are told apart; is it free text, or an id?"))
    elif len(found) == 2:
        todo = "if these are all classes, `task: binary` with `positive:` tells precision and recall of one"
        told.append(Remark(f"{holds} only, under `task: multiclass`: {todo}"))
    if predicted is not None and predicted.values and not set(found) & set(predicted.distinct):
        other = f"{predicted.where} holds {_listed(predicted.distinct)}"
        told.append(Remark(f"no predicted class is among the labels: {holds}, {other}", broken=True))
    scored = {} if model.labels is None else model.labels.scores
    absent = [name for name in scored if canonical(name) not in found]
    if absent and len(absent) == len(scored):
        names = ", ".join(absent[:SHOWN])
        told.append(Remark(f"no class of `labels.scores` ({names}) is among the labels: {holds}", broken=True))
    return told


def _listed(found: dict[str, str]) -> str:
    names = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in found.values()]
    if len(names) <= SHOWN:
        return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    return f"{len(names)} different values ({', '.join(names[:SHOWN])} …)"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
