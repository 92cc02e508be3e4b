"""Values as KubeEdge shows them, and as it takes them."""

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.devicecontroller.values import parse, to_text, twin_type, type_of


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("INT", 0, "0"),
        ("INT", -(2**63), "-9223372036854775808"),
        ("BOOLEAN", True, "true"),
        ("BOOLEAN", False, "false"),
        ("STRING", "a b", "a b"),
        ("STRING", "", ""),
        ("BYTES", b"\x00\xff", "AP8="),
        ("DOUBLE", 21.5, "21.5"),
        ("DOUBLE", 21.0, "21"),
        ("DOUBLE", 100, "100"),
        ("DOUBLE", 0.1, "0.1"),
        ("DOUBLE", -0.0, "-0"),
        ("DOUBLE", 1e21, "1000000000000000000000"),
        ("DOUBLE", 1.5e-7, "0.00000015"),
        ("DOUBLE", math.nan, "NaN"),
        ("DOUBLE", math.inf, "+Inf"),
        ("DOUBLE", -math.inf, "-Inf"),
        ("FLOAT", struct.unpack("f", struct.pack("f", 0.1))[0], "0.1"),
        ("FLOAT", 215 * 0.1, "21.5"),
        ("FLOAT", 16777216.0, "16777216"),
        ("FLOAT", 3.4028234663852886e38, "340282350000000000000000000000000000000"),
        ("FLOAT", 1e300, "1" + "0" * 300),
        ("FLOAT", math.nan, "NaN"),
        ("FLOAT", -math.inf, "-Inf"),
        ("FLOAT", 7, "7"),
    ],
)
def test_text_of_a_reported_value(kind, value, text):
    assert to_text(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", 1.0),
        ("INT", True),
        ("BOOLEAN", 1),
        ("STRING", b"x"),
        ("BYTES", "x"),
        ("FLOAT", "1"),
        ("DOUBLE", False),
    ],
)
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises(ValueError, match=f"not of type {kind}"):
        to_text(kind, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_double_reads_back_as_the_same_value(value):
    text = to_text("DOUBLE", value)
    assert float(text) == value
    assert "e" not in text.lower()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_reads_back_as_the_same_float_and_is_no_longer_than_needed(value):
    text = to_text("FLOAT", value)
    packed = struct.pack("f", value)
    assert struct.pack("f", float(text)) == packed
    assert len(Decimal(text).normalize().as_tuple().digits) <= 9


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        ("INT", "40", 40),
        ("INT", "-1", -1),
        ("FLOAT", "21.5", 21.5),
        ("DOUBLE", "1e3", 1000.0),
        ("DOUBLE", "7", 7.0),
        ("BOOLEAN", "true", None),
        ("STRING", "anything", None),
        ("BYTES", "AP8=", None),
    ],
)
def test_a_desired_text_of_the_type_is_taken(kind, text, number):
    assert parse(kind, text) == number


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("INT", "1.0"),
        ("INT", ""),
        ("INT", "1_000"),
        ("INT", " 1"),
        ("INT", "--1"),
        ("INT", "²"),
        ("INT", "9" * 5000),
        ("INT", "9223372036854775808"),
        ("FLOAT", "warm"),
        ("FLOAT", "nan"),
        ("FLOAT", "inf"),
        ("FLOAT", "1_0"),
        ("FLOAT", "1 "),
        ("DOUBLE", "1e999"),
        ("BOOLEAN", "True"),
        ("BOOLEAN", "1"),
        ("BYTES", "x"),
        ("BYTES", "AP8=\n!"),
    ],
)
def test_a_desired_text_of_another_type_is_refused(kind, text):
    with pytest.raises(ValueError, match=r"is n|neither|does not fit"):
        parse(kind, text)


def test_twin_types_are_those_that_kubeedge_knows():
    kinds = ("INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES")
    assert [twin_type(each) for each in kinds] == ["int", "float", "float", "boolean", "string", "string"]


def test_the_type_of_a_value_by_itself():
    values = (1, 1.0, True, "x", b"x")
    assert [type_of(each) for each in values] == ["INT", "DOUBLE", "BOOLEAN", "STRING", "BYTES"]
