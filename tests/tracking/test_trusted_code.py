"""Consent to run code that comes from a store."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from ecg_mlflow.errors import UntrustedCodeError
from ecg_mlflow.tracking import trusted_code
from ecg_mlflow.tracking.trusted_code import (
    TRUST_VARIABLE,
    Consent,
    code_hash,
    is_trusted,
    trust,
    trusted_root,
)

FILES = {"grid.py": b"import parts\x1b[2J", "parts.py": b"WIDTH = 3"}


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    """This machine has run nothing yet."""
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "trusted"))


def test_nothing_is_run_unasked_and_the_error_says_what_and_how():
    consent = Consent().of("the code of study s (1a2b)", "mlflow artifacts download")
    with pytest.raises(
        UntrustedCodeError,
        match=r"the code of study s \(1a2b\) would run here.*'grid.py' \(16 bytes\), 'parts.py' "
        r"\(9 bytes\).*\(mlflow artifacts download\); then say --trust-code, .*trust_code=True",
    ):
        consent.require(FILES)
    assert not is_trusted(FILES)


def test_what_was_run_once_needs_no_consent_again(tmp_path, monkeypatch):
    Consent(given=True).require(FILES)
    Consent().require(FILES)
    monkeypatch.setattr(trusted_code, "_here", set())
    Consent().require(FILES)  # another process
    assert (tmp_path / "trusted").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "of another user"))
    with pytest.raises(UntrustedCodeError):
        Consent().require(FILES)


@pytest.mark.parametrize(
    "changed",
    [
        {**FILES, "parts.py": b"WIDTH = 4"},
        {**FILES, "evil.py": b""},
        {"grid.py": FILES["grid.py"]},
        {"grid.py": FILES["parts.py"], "parts.py": FILES["grid.py"]},
    ],
)
def test_any_other_set_of_files_needs_consent(changed):
    trust(FILES)
    assert not is_trusted(changed)
    assert code_hash(FILES) == code_hash(dict(reversed(FILES.items())))


def test_no_code_needs_no_consent():
    Consent().require({})
    assert not trusted_root().exists()


def test_where_the_list_cannot_be_written_consent_holds_for_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "file" / "trusted"))
    trust(FILES)
    assert is_trusted(FILES)
    monkeypatch.setattr(trusted_code, "_here", set())
    assert not is_trusted(FILES)


ASK = """
from ecg_mlflow.errors import UntrustedCodeError
from ecg_mlflow.tracking.trusted_code import Consent
for _ in range(2):
    try:
        Consent().require({"grid.py": b"import parts\\x1b[2J"})
    except UntrustedCodeError:
        print("refused")
    else:
        print("consent")
"""


@pytest.mark.parametrize(
    ("typed", "answers"),
    [("y\n", ["consent", "consent"]), ("s\nyes\n", ["consent", "consent"])]
    + [(typed, ["refused", "refused"]) for typed in ("n\n\n", "\nno\n", "\x04\x04")],
)
def test_a_person_at_a_terminal_is_asked(typed, answers):
    """Each once; whoever wants to see the files sees them without anything that hides a part."""
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.stdout.split() == answers
    assert "Run it? [y]es, [n]o, [s]how it: " in shown
    assert ("--- grid.py" in shown) == typed.startswith("s")
    assert "\x1b[2J" not in shown
    if typed.startswith("s"):
        assert r"import parts\x1b[2J" in shown
