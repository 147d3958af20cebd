"""The labels of a model one by one: each further label is seen as if the model had no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from monitor.config import (
    CompareConfig,
    FurtherLabel,
    LabelConfig,
    ModelConfig,
    PerformanceConfig,
    SaidColumns,
    ScoreConfig,
    ShadowColumns,
    Task,
)
from monitor.models import Roles


def views(model: ModelConfig) -> list[ModelConfig]:
    """The model with its own label, then with each of ``labels.also`` in its place; empty without labels."""
    if model.labels is None:
        return []
    compare = _compared(model.compare, model.labels.task, lambda columns: columns)
    found = [model.model_copy(update={"compare": compare}) if compare is not model.compare else model]
    for further in model.labels.also:
        own = further.performance or PerformanceConfig(min_labels=model.performance.min_labels)
        update: dict[str, object] = {"labels": LabelConfig.of(further), "performance": own.of_task(further.task)}
        if further.score is not None or further.prediction is not None:
            update |= {
                "score": ScoreConfig(column=further.score),
                "prediction": further.prediction,
                "threshold": further.threshold,
                "positive": further.positive,
            }
        elif further.task == "binary":
            kept = model.threshold if further.threshold is None else further.threshold
            update |= {"positive": further.positive, "threshold": kept}
        update["compare"] = _compared_by(model.compare, further)
        found.append(model.model_copy(update=update))
    return found


def _compared_by(compare: CompareConfig | None, further: FurtherLabel) -> CompareConfig | None:
    """How versions are compared on a further label: by what each said of it."""
    own = further.score is not None or further.prediction is not None
    found = _compared(
        compare, further.task, lambda columns: columns.also.get(further.name) or (None if own else columns)
    )
    return found.model_copy(update={"thresholds": {}}) if found is not None and own else found


def _compared(
    compare: CompareConfig | None, task: Task, pick: Callable[[ShadowColumns], SaidColumns | None]
) -> CompareConfig | None:
    """The comparison as labels of one kind allow it; ``None`` where no shadow version said anything of the label."""
    if compare is None:
        return None
    said = {version: pick(columns) for version, columns in compare.shadow.items()}
    shadow = {
        version: ShadowColumns.model_construct(**dict(each.of_task(task)) | {"also": {}})
        for version, each in said.items()
        if each is not None
    }
    if compare.shadow and not shadow:
        return None
    challengers = [name for name in compare.challengers if not compare.shadow or name in shadow]
    if compare.shadow and compare.challengers and not challengers:
        return None
    return compare.model_copy(update={"shadow": shadow, "challengers": challengers, "metrics": compare.of_task(task)})


def roles_of(view: ModelConfig, roles: Roles) -> Roles:
    """What the columns are for, as one of the views sees them."""
    if view.labels is None or view.labels.name is None:
        return roles
    score, decision = view.score.column or roles.score, view.prediction or roles.decision
    if view.score.column is not None or view.prediction is not None:
        score, decision = view.score.column, view.prediction
    if view.labels.task == "regression" and view.prediction is not None:
        score, decision = view.prediction, None
    return replace(roles, score=score, decision=decision, label=view.labels.label)


def label_name(model: ModelConfig) -> str | None:
    """The name of a further label; ``None`` for the model's own."""
    return None if model.labels is None else model.labels.name


def column_of(model: ModelConfig, column: str) -> str:
    """Under which name the counts of this label are kept: those of further labels carry its name."""
    name = label_name(model)
    return column if name is None else f"{column}{name}"
