"""Wrong values are told in words of a person's, with what was expected."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from tunemerge.schema_errors import said


class Part(BaseModel):
    steps: int = Field(1, ge=1, le=9)
    rate: float = Field(1.0, gt=0)
    on: bool = True
    name: str = Field("a", pattern="^[a-z]+$", max_length=4)
    names: list[str] = Field(["a"], min_length=1)
    table: dict[str, int] = {}
    keep: Literal["all", "models", "winner"] = "all"

    @field_validator("names")
    @classmethod
    def _distinct(cls, names):
        if len(set(names)) < len(names):
            raise ValueError("the same name twice")
        return names


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"steps": "five"}, "expected a whole number, found 'five'"),
        ({"steps": 1.5}, "expected a whole number, found 1.5"),
        ({"steps": None}, "expected a whole number, found nothing"),
        ({"steps": [1]}, "expected a whole number, found [1]"),
        ({"steps": 0}, "expected at least 1, found 0"),
        ({"steps": 10}, "expected at most 9, found 10"),
        ({"rate": "1e-4x"}, "expected a number, found '1e-4x'"),
        ({"rate": -0.5}, "expected more than 0, found -0.5"),
        ({"on": "maybe"}, "expected true or false, found 'maybe'"),
        ({"name": 3}, "expected text, found 3"),
        ({"name": "abcde"}, "expected at most 4 characters, found 'abcde'"),
        ({"names": "a"}, "expected a list, found 'a'"),
        ({"names": []}, "expected at least 1 of them, found an empty list"),
        ({"names": ["a", "a"]}, "the same name twice"),
        ({"table": 5}, "expected keys with values, found 5"),
        ({"keep": "winers"}, "expected 'all', 'models' or 'winner', found 'winers'; did you mean 'winner'?"),
        ({"keep": "x" * 200}, "expected 'all', 'models' or 'winner', found '" + "x" * 56 + "..."),
    ],
)
def test_what_is_wrong_with_a_value(values, expected):
    with pytest.raises(ValidationError) as e:
        Part.model_validate(values)
    (error,) = e.value.errors()
    assert said(error) == expected
