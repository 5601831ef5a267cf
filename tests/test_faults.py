"""Every fault that this system answers for has an id, and a test that bears it: in its name or in its docstring."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: F01 to F55; which fault that is, its tests say.
IDS = [f"F{number:02}" for number in range(1, 56)]
NAMED = re.compile(r"(?:\bF|_f)(\d\d)(?!\d)")


def named_by_tests() -> dict[str, list[str]]:
    """Id → its tests, as `path::name`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = f"{node.name} {ast.get_docstring(node) or ''}"
                for number in set(NAMED.findall(words)):
                    found[f"F{number}"].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


BY_FAULT = named_by_tests()


@pytest.mark.parametrize("fault", IDS)
def test_every_fault_has_a_test(fault: str) -> None:
    assert BY_FAULT[fault]


def test_no_test_names_a_fault_that_does_not_exist() -> None:
    assert set(BY_FAULT) <= set(IDS)
