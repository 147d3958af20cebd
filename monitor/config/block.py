"""What every block of `config.yaml` has in common: keys that are not known are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, validate_default=True, use_attribute_docstrings=True
    )
