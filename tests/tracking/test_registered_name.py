"""Names of versions of registered models."""

from __future__ import annotations

import pytest

from ecg_mlflow.tracking.registered_name import RegisteredName


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/af-resnet@champion", RegisteredName("af-resnet", "champion", None)),
        ("models:/af-resnet/12", RegisteredName("af-resnet", None, 12)),
        ("models:/two words@it's", RegisteredName("two words", "it's", None)),
    ],
)
def test_it_is_read(uri, expected):
    assert RegisteredName.from_uri(uri) == expected


@pytest.mark.parametrize(
    "uri",
    ["models:/m-0123", "models:/af-resnet/latest", "models:/af-resnet@", "af-resnet/1", "/tmp/x"],
)
def test_what_is_none(uri):
    assert RegisteredName.from_uri(uri) is None
