"""Tables that benchmarks measure, each between two marks of docs/labels.md: their command line, and the writing."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "labels.md"


@dataclass(frozen=True)
class Measured:
    """A table of docs/labels.md: the module that measures it, its marks, and the numbers that it can be asked with."""

    module: str
    name: str
    numbers: dict[str, int]
    """Option → default, all whole numbers; the seed among them."""

    def parser(self, doc: str | None) -> argparse.ArgumentParser:
        """With an option for each number, and ``--write``."""
        parser = argparse.ArgumentParser(description=doc)
        for option, default in self.numbers.items():
            parser.add_argument(f"--{option}", type=int, default=default)
        parser.add_argument("--write", action="store_true", help=f"put the table into {DOCS.name}")
        return parser

    def options(self, asked: argparse.Namespace) -> dict[str, int]:
        """What was asked for, by option."""
        return {option: getattr(asked, option) for option in self.numbers}

    def into(self, page: str, told: str, *, asked: dict[str, int], said: str) -> str:
        """The page with the table between the marks replaced, and above it when and how it was measured.

        Raises
        ------
        ValueError
            The page lacks the marks.
        """
        marks = (f"<!-- {self.name}: begin -->", f"<!-- {self.name}: end -->")
        before, found, rest = page.partition(marks[0])
        _, ended, after = rest.partition(marks[1])
        if not found or not ended:
            raise ValueError(f"expected a page with {marks[0]} and {marks[1]}")
        command = " ".join([f"python -m {self.module}", *(f"--{option} {n}" for option, n in asked.items())])
        how = f"Measured {datetime.now(UTC):%Y-%m-%d} with `{command}`: {said}"
        return f"{before}{marks[0]}\n{how}\n\n{told}\n{marks[1]}{after}"

    def keep(self, told: str, asked: argparse.Namespace, *, said: str) -> None:
        """Write the table into the docs, if that was asked for."""
        if asked.write:
            page = self.into(DOCS.read_text(encoding="utf-8"), told, asked=self.options(asked), said=said)
            DOCS.write_text(page, encoding="utf-8")
