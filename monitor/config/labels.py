"""`labels`: where a truth lies, of which kind it is, and how long it takes to become known."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from monitor.config.block import Block
from monitor.config.limits import NullLimits
from monitor.config.metrics import Task
from monitor.config.performance import PerformanceConfig
from monitor.config.sources import TimeColumn
from monitor.config_types import Duration, Fraction, Names, NonEmpty, Number, Scalar, format_duration


class DelayChangeLimits(NullLimits):
    """A change of how long labels take, as a share of what it was: `{warn: 25%, alert: 50%}`."""

    warn: Fraction = 0.25
    """Worth a look."""
    alert: Fraction = 0.5
    """Worth a message."""


class UnmatchedLimits(NullLimits):
    """Labels whose id no prediction has, as a share and above what is usual: `{warn: 5%, alert: 50%}`."""

    warn: Fraction = 0.05
    """Worth a look."""
    alert: Fraction = 0.5
    """Worth a message."""


class OnlyWhen(Block):
    """Which predictions can get a label at all: those of one decision, or with some value in a column."""

    decision: Literal["positive", "negative"] | None = None
    """The decision that lets a label come to be: `negative` where a positive one refuses the loan."""
    column: NonEmpty | None = None
    """A column of the predictions, such as `approved`."""
    is_: Scalar | None = Field(None, alias="is")
    """The value of `column` with which a label can come."""

    @model_validator(mode="after")
    def _one_condition(self) -> OnlyWhen:
        if (self.decision is None) == (self.column is None):
            raise ValueError("give either a `decision` (positive or negative), or a `column` and what it `is`")
        if (self.column is None) != (self.is_ is None):
            raise ValueError("`column` and `is` belong together: {column: approved, is: true}")
        return self


class LabelBlock(Block):
    """Where a truth lies, of which kind it is, and how long it takes to become known."""

    label: NonEmpty = "label"
    """Column with the truth."""
    task: Task = "binary"
    """What the truth is: `binary` (true or false, see `positive`), `multiclass` (one of several classes; the predicted
    class is the model's `prediction`) or `regression` (a number; the predicted one is `prediction` or `score`)."""
    scores: dict[NonEmpty, NonEmpty] = {}
    """Of `multiclass`: class → column with its predicted probability, e.g. `{cat: p_cat, dog: p_dog}`; needed for
    ROC-AUC, log loss, and what to expect before labels."""
    table: NonEmpty | None = None
    """Table with the labels (default: the model's own)."""
    query: NonEmpty | None = None
    """A SELECT in place of a table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    key: Names | None = None
    """Columns that join labels to predictions (default: the model's `key`)."""
    time: TimeColumn | None = None
    """When the label became known; absent: known as soon as it is not null."""
    delay: Duration = timedelta(days=30)
    """A window's labels are taken as mature this long after its end; it is kept up to date until then."""
    delay_change: DelayChangeLimits = DelayChangeLimits()
    """By how much longer (or shorter) labels may take than they did, before that is itself a finding."""
    unmatched: UnmatchedLimits | None = UnmatchedLimits()
    """How many of the labels that landed in a window may have an id that no prediction has, of 500 that are looked up;
    `null` to look none up. Needs `time`, and a table of labels."""
    horizons: list[Duration] = []
    """Ages at which labels are looked at again, besides the age `delay` (default: when a window is a third older)."""
    absent_means: Scalar | None = None
    """Label of a request that has none at the age `delay` (default: unknown, and left out)."""
    only_when: OnlyWhen | None = None
    """Which predictions can ever be labelled (default: all): `{decision: negative}` where refused loans show no
    default, or `{column: approved, is: true}`. What the others would have been is told as bounds."""

    @model_validator(mode="after")
    def _one_relation(self) -> Self:
        if self.table is not None and self.query is not None:
            raise ValueError("give the labels a `table` or a `query`, not both")
        if self.source is not None and self.table is None and self.query is None:
            raise ValueError("`source` needs a `table` or a `query` of labels")
        if any(horizon > self.delay for horizon in self.horizons):
            raise ValueError(f"a horizon is longer than `delay` ({format_duration(self.delay)}): it would never be met")
        if self.scores and self.task != "multiclass":
            raise ValueError("`scores` (a probability of each class) need `task: multiclass`")
        if self.only_when is not None and self.task != "binary":
            raise ValueError("`only_when` needs `task: binary`: of classes and numbers no bounds are told")
        return self


class FurtherLabel(LabelBlock):
    """One more label of the same predictions, with a delay, metrics and limits of its own."""

    name: Annotated[NonEmpty, Field(pattern=r"^[A-Za-z0-9][\w .-]{0,59}$")]
    """What it is called in results and messages."""
    prediction: NonEmpty | None = None
    """Column with the decision, the predicted class or the predicted number (default: what the model has)."""
    score: NonEmpty | None = None
    """Column with the score of a `binary` label (default: the model's)."""
    threshold: Number | None = None
    """Scores from here on are positive decisions (default: the model's, where the score is the model's)."""
    positive: Scalar = 1
    """Value of decision and label that counts as positive."""
    performance: PerformanceConfig | None = None
    """Metrics and limits of this label (default: the built-in ones of its task)."""


class LabelConfig(LabelBlock):
    """Where the truth lies, and how long it takes to become known."""

    also: list[FurtherLabel] = []
    """More labels of the same predictions, each with a `name`; they are judged one by one."""

    _name: str | None = PrivateAttr(default=None)

    @property
    def name(self) -> str | None:
        """The name of a further label; ``None`` for the model's own."""
        return self._name

    @classmethod
    def of(cls, further: FurtherLabel) -> LabelConfig:
        """A further label as if it were the model's own, but for its name."""
        plain = {key: getattr(further, key) for key in LabelBlock.model_fields}
        found = cls.model_construct(_fields_set=set(further.model_fields_set) & set(plain), **plain)
        found._name = further.name
        return found
