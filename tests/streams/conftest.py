"""Encoded once for all tests of this room: a stream at each of the rates that lectures come in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest

from tests.streams.trees import Tree, make_tree, plan_of, with_extras

RATES = [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30)]
#: Two chunks of three segments, the last one short.
SECONDS = Fraction(57, 10)


@pytest.fixture(scope="session")
def tree_at(tmp_path_factory) -> Callable[[Fraction], Tree]:
    @cache
    def tree(rate: Fraction) -> Tree:
        return make_tree(plan_of(rate, SECONDS), tmp_path_factory.mktemp("tree"))

    return tree


@pytest.fixture(params=RATES, ids=str)
def any_tree(request, tree_at) -> Tree:
    return tree_at(request.param)


@pytest.fixture
def tree(tree_at) -> Tree:
    """The stream at 25 frames a second: two rungs of six segments, and sound."""
    return tree_at(Fraction(25))


@pytest.fixture(scope="session")
def full_tree(tree_at) -> Tree:
    """The same with subtitles in two languages, a storyboard and a poster."""
    return with_extras(tree_at(Fraction(25)))
