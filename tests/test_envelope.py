"""The rules of docs/format.md that concern the envelope itself, each by its number there."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corec.envelope import SCALES, VERSION, Envelope, pack, step_code, step_of, unpack
from corec.errors import EnvelopeError

LITERAL = [
    (Envelope(0, 0, 0), "10 00"),
    (Envelope(1, 0, 0), "10 01"),
    (Envelope(1, 0, 1), "11 01"),
    (Envelope(1, 1, 0), "12 01"),
    (Envelope(1, 1, 1), "13 01"),
    (Envelope(127, 0, 0), "10 7f"),
    (Envelope(128, 0, 0), "10 80 01"),
    (Envelope(300, 1, 0), "12 ac 02"),
    (Envelope(16384, 0, 0), "10 80 80 01"),
    (Envelope(1, 1, 0, step=0), "16 01 00"),
    (Envelope(300, 0, 1, step=255), "15 ac 02 ff"),
    (Envelope(5, 0, 0, 1.5), "18 00 05"),
    (Envelope(5, 1, 1, 1.5, 64), "1c 05 05 40"),
    (Envelope(300, 2, 1, 3.0), "18 19 ac 02"),
]


@pytest.mark.parametrize(("envelope", "text"), LITERAL)
def test_the_bytes_are_those_of_the_format(envelope: Envelope, text: str) -> None:
    assert pack(envelope) == bytes.fromhex(text)
    assert unpack(bytes.fromhex(text)) == envelope


@given(
    st.integers(0, 2**70),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0.0, *SCALES]),
    st.none() | st.integers(0, 255),
)
def test_what_is_packed_is_unpacked(model: int, columns: int, rows: int, scale: float, step: int | None) -> None:
    envelope = Envelope(model, *((columns, rows) if scale else (columns % 2, rows % 2)), scale, step)
    assert unpack(pack(envelope)) == envelope


@given(st.binary(max_size=12))
def test_any_bytes_are_refused_or_are_the_one_way_to_say_something(data: bytes) -> None:
    try:
        envelope = unpack(data)
    except EnvelopeError:
        return
    assert pack(envelope) == data


def test_e1_an_empty_envelope_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="empty"):
        unpack(b"")


@pytest.mark.parametrize("version", [v for v in range(16) if v != VERSION])
def test_e2_another_version_is_refused_and_named(version: int) -> None:
    with pytest.raises(EnvelopeError, match=f"envelope version {version}; this Corec reads version 1"):
        unpack(bytes([version << 4, 1]))


@pytest.mark.parametrize("text", ["18 20 01", "18 ff 01", "1c 30 01 40"])
def test_e3_a_size_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(EnvelopeError, match="a size that this Corec does not know: update it"):
        unpack(bytes.fromhex(text))


@pytest.mark.parametrize(
    "text",
    [
        "10",  # no number
        "10 80",  # ends in the middle of one
        "10 ff ff ff",
        "10 81 00",  # 1 in more bytes than it needs
        "10 80 00",
        "10 01 00",  # bytes behind it
        "10 01 01",
        "14 01",  # no step
        "14 80 40",
        "14 01 40 40",
        "18",  # no size
        "18 01",  # no number
        "19 00 01",  # an odd height that the size tells, too
    ],
)
def test_e5_a_number_cut_short_padded_or_followed_is_refused(text: str) -> None:
    with pytest.raises(EnvelopeError, match="not well formed"):
        unpack(bytes.fromhex(text))


@given(st.floats(1 / 16, 3900))
def test_a_step_is_told_to_within_two_percent_and_a_half(step: float) -> None:
    assert step_of(step_code(step)) == pytest.approx(step, rel=0.0225)


@given(st.integers(0, 255))
def test_a_step_that_was_told_is_told_the_same_again(code: int) -> None:
    assert step_code(step_of(code)) == code


def test_a_negative_model_number_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="negative"):
        pack(Envelope(-1, 0, 0))


def test_every_rule_of_the_format_names_a_test_that_exists() -> None:
    here = Path(__file__).parent
    rules = (here.parent / "docs" / "format.md").read_text(encoding="utf-8").splitlines()
    tests = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_*.py"))
    for rule in rules:
        named = re.findall(r"`(test_\w+)`", rule)
        assert named or not re.match(r"\| [A-Z]\d", rule), rule
        assert all(f"def {name}(" in tests for name in named), rule
