"""The contract of a row step. A file of this folder with a class `Step` is a step; its file name is its word in `migration.yaml`.

`{lower: email}`, `{concat: [a, b], separator: " "}`: the word's own value names the source columns, the other keys are the step's
options. In a list of steps the first names the columns (a bare word is one column); each following one works on the value so far:
`[email, trim, lower]`, `[status, {map: ~, values: {A: active}}]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from pipeline.model import Engine, Kind, LogicalType, Text
from pipeline.spec.strict import Strict, fault

TEXT = LogicalType(Kind.TEXT)


class RowStep(Strict):
    """Options of one step and what it does. Frozen; `bound` answers a copy that knows the types of its inputs."""

    word: ClassVar[str] = ""  # the file's name; set where the step is found
    fewest: ClassVar[int] = 1  # how many columns it takes
    most: ClassVar[int | None] = 1  # None: any number
    argument: ClassVar[str | None] = None  # the option that a following step's own value means: [total, {cast: integer}]
    masks: ClassVar[bool] = False  # its input is not to be shown: differences show its output only
    examples: ClassVar[tuple[Any, ...]] = ()  # entries of `columns:` over text columns a and b: the contract suite runs them

    @classmethod
    def read(cls, main: Any, options: dict[str, Any], first: bool) -> tuple[tuple[str, ...], Self]:
        """Columns and step from the word's value and the other keys. Raises pydantic's errors."""
        if first:
            columns = (main,) if isinstance(main, str) else tuple(main) if isinstance(main, list) else None
            if columns is None or not all(isinstance(column, str) for column in columns):
                raise fault("must name a source column" if cls.most == 1 else "must name source columns")
            if len(columns) < cls.fewest or (cls.most is not None and len(columns) > cls.most):
                raise fault(f"takes {cls.takes()}, not {len(columns)}")
            return columns, cls.model_validate(options)
        if cls.fewest > 1:
            raise fault(f"takes {cls.takes()}: it can only come first")
        if main is not None:
            if isinstance(main, dict):
                options = {**options, **main}
            elif cls.argument is not None:
                options = {**options, cls.argument: main}
            else:
                raise fault("works on the value so far here: write it without a column")
        return (), cls.model_validate(options)

    @classmethod
    def takes(cls) -> str:
        """`1 column`, `at least 2 columns`, for messages."""
        if cls.fewest == cls.most:
            return f"{cls.fewest} column{'s' if cls.fewest != 1 else ''}"
        return f"at least {cls.fewest} columns"

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        """A copy for inputs of these types. Raises ValueError when they do not fit."""
        return self

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        """What the outcome's canonical text is of."""
        return TEXT

    def function(self) -> Callable[..., Text]:
        """The outcome in Python, as a plain function to be kept: options are looked up once, not for every row. It raises DataRejected
        for a value that the step has no answer for.
        """
        raise NotImplementedError

    def forward(self, *values: Text) -> Text:
        """The outcome for one row."""
        return self.function()(*values)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        """The outcome as a SQL text expression over text expressions; None where SQL cannot say exactly what `forward` says."""
        return None

    def dump(self, columns: tuple[str, ...] | None) -> dict[str, Any]:
        """The step as the file writes it; `columns` None: as a following step."""
        main = None if columns is None else columns[0] if len(columns) == 1 else list(columns)
        return {self.word: main, **self.model_dump(exclude_defaults=True, by_alias=True)}

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        """Steps that give input number `at` back from the outcome, exactly; or why there are none."""
        return f"{self.word} cannot be undone"


def lengthless(type: LogicalType) -> LogicalType:
    """The type of a text that may be longer or shorter than `type`: enums and the like become plain text."""
    return type if type.kind is Kind.TEXT and type.length is None and not type.fixed else TEXT
