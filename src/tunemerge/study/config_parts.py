"""study.yaml: names, sizes and other values that several of its parts have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def distinct(names: list[str]) -> list[str]:
    """The names. Raises ValueError where one is there twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} given twice")
    return names


NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=60)]
Names = Annotated[list[str], AfterValidator(distinct)]
Size = Annotated[float, Field(gt=0)]
SplitName = Literal["source", "adapt", "validation", "test"]
ScoredSplit = Literal["test", "held_out"]
# A length of time ("5d"), or a number where the column of the time is one.
Span = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int | float) else v)]


class Part(BaseModel):
    """A part of the file: keys that it does not know are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
