"""What a model keeps of itself, as JSON."""

from __future__ import annotations

import json

import pytest

from ecg_mlflow.errors import ModelError
from ecg_mlflow.serving import manifest as manifest_module
from ecg_mlflow.serving.manifest import Manifest, SelfTest, code_digest


def test_a_manifest_comes_back_equal(make_manifest):
    test = SelfTest("A00001", 300.0, ("L1",), (0.25, 0.75))
    manifest = make_manifest(
        threshold=0.31,
        temperature=1.7,
        threshold_rule="youden",
        calibrated_on="80 validation records",
        version="0.1",
        code="c0de",
        self_test=test,
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(make_manifest().to_json()) == make_manifest()
    assert manifest.place == 0


@pytest.mark.parametrize("change", [{"form": 99}, {"colour": "red"}])
def test_another_versions_form_says_how_to_load_it(make_manifest, change):
    text = json.dumps({**json.loads(make_manifest(version="7.0").to_json()), **change})
    with pytest.raises(ModelError, match=r"made by ecg_mlflow 7\.0 .*of the model's own req"):
        Manifest.from_json(text)


def test_the_code_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_module, "_PACKAGE", tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.py").write_text("x = 1")
    first = code_digest()
    assert first == code_digest()
    (tmp_path / "part" / "a.txt").write_text("no code")
    assert first == code_digest()
    (tmp_path / "part" / "a.py").write_text("x = 2")
    assert first != (second := code_digest())
    (tmp_path / "part" / "a.py").rename(tmp_path / "part" / "b.py")
    assert code_digest() not in (first, second)
