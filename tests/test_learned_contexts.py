"""What is known of latents before they are decoded: every one in its turn, told by whole numbers or refused."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import picture
from tiny_learned import ENDS, KINDS, LEVELS, Watched, tiny_zoo

from corec.errors import ModelError
from corec.learned import prior
from corec.learned.codec import Latents, read, tables_of
from corec.learned.prior import Prior
from corec.models import Learned, learned_named


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


def prior_of(name: str, level: int, height: int, width: int) -> Prior:
    model = learned_named(name)
    return Prior(model, tables_of(model), level, (6, height, width))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1), (1, 4), (5, 6)])
def test_every_latent_has_its_turn_once(name: str, height: int, width: int) -> None:
    known, turns = prior_of(name, 3, height, width), np.zeros((6, height, width), int)
    for where in known.places():
        counted = sum(len(numbers) for _, numbers, _ in known.pieces(where))
        assert counted == turns[where].size
        turns[where] += 1
    assert (turns == 1).all()


def test_places_come_group_by_group_and_chequered() -> None:
    latents = np.full((6, 2, 2), -1)
    for turn, where in enumerate(prior_of("context-gray", 3, 2, 2).places()):
        latents[where] = turn
    assert latents[0].tolist() == [[0, 2], [3, 1]]
    for group, (first, end) in enumerate(pairwise(ENDS), 1):
        assert (latents[first:end] == np.array([[0, 2], [3, 1]]) + 4 * group).all()


@pytest.mark.parametrize("name", ["plain-gray", "plain-color"])
def test_without_contexts_an_array_and_a_level_have_a_table(name: str) -> None:
    for level in range(LEVELS):
        known = prior_of(name, level, 3, 2)
        ((_, numbers, means),) = [piece for where in known.places() for piece in known.pieces(where)]
        assert numbers.tolist() == np.repeat(6 * level + np.arange(6), 6).tolist()
        assert not np.any(means)


def test_a_context_sees_the_level_and_what_is_known_when_it_is_asked() -> None:
    known = prior_of("context-gray", 5, 2, 4)
    known.contexts = watched = [Watched(network) for network in known.contexts]
    random, coded, seen = np.random.default_rng(1), np.zeros((6, 2, 4)), 0
    for where in known.places():
        group = ENDS.index(where[0].stop)
        if sum(len(network.asked) for network in watched) > seen:
            seen += 1
            image = watched[group].asked[-1].transpose(2, 0, 1)
            assert (image[0] == 1).all()  # a quarter of 5, rounded
            np.testing.assert_array_equal(image[1], (coded[where[0]] != 0).all(0))
            np.testing.assert_array_equal(image[2:], coded[: where[0].stop])
        for piece, numbers, means in known.pieces(where):
            symbols = random.integers(20, 30, len(numbers)).astype(np.int32)  # whatever the mean, not 0
            known.learn(where, piece, symbols)
            coded[where] = (symbols + np.rint(means)).reshape(coded[where].shape)
    assert [len(network.asked) for network in watched] == [3, 2, 2]


def test_what_contexts_see_is_held_to_2047() -> None:
    known = prior_of("context-gray", 3, 2, 2)
    for where, symbol in zip(known.places(), (5000, 2**31 - 1, -5000, -(2**31)), strict=False):
        for piece, numbers, _ in known.pieces(where):
            known.learn(where, piece, np.full(len(numbers), symbol, np.int32))
    assert known.seen[prior.PLANES].tolist() == [[2047, -2047], [-2047, 2047]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told + 0.25, "numbers that are not whole"),
        (lambda told: told + np.nan, "numbers that are not whole"),
        (lambda told: told + 2**15, "numbers that are not whole"),
        (lambda told: told + 5, "names tables that there are not"),
        (lambda told: told - 5, "names tables that there are not"),
    ],
)
@pytest.mark.parametrize("which", ["context0", "context2"])
def test_a_context_that_is_not_exact_is_refused(
    monkeypatch: pytest.MonkeyPatch, which: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    model = learned_named("context-gray")
    data, net = Latents(picture(40, 50, True), model).file(3), prior.net

    def changed(row: Learned, part: str) -> Any:
        return Watched(net(row, part), change) if part == which else net(row, part)

    monkeypatch.setattr(prior, "net", changed)
    for call in (partial(read, data), partial(Latents(picture(40, 50, True), model).file, 3)):
        with pytest.raises(ModelError, match=message):
            call()
