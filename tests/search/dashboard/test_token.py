"""The secret: made well, kept private, compared without giving it away."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from search.dashboard.guard import Token, load_token
from search.dashboard.server import ServingError

GOOD = "d54b922ac5a179e1f0066c3f55031755"


def test_a_missing_file_is_created_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token, secret = load_token(tmp_path / "token")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len(secret) >= 43  # 256 bits in base64
    assert load_token(tmp_path / "token")[1] == secret
    assert load_token(tmp_path / "other")[1] != secret
    assert token.matches(secret)
    for other in ("", secret[:-1], f" {secret}", secret.swapcase(), "ü", "\udcff"):
        assert not token.matches(other)
    assert secret not in f"{token!r} {token} {vars(token)}"


def test_a_session_ends_even_if_copied_and_cannot_be_extended() -> None:
    token, now = Token(GOOD), int(time.time())
    session = token.session(now + 60)
    assert token.is_session(session)
    assert GOOD not in session
    signature = session.partition(".")[2]
    for other in (f"{now + 61}.{signature}", f"0{session}", signature, f".{signature}", "", GOOD,
                  "9" * 5000, "\udcff.a", token.session(now - 1), session.swapcase()):  # fmt: skip
        assert not token.is_session(other), other
    assert not Token(GOOD[::-1]).is_session(session)
    assert not token.matches(session)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (f"  {GOOD}\n", 0o600, ""),
        (GOOD, 0o644, "644.*chmod 600"),
        (GOOD, 0o601, "601.*chmod 600"),
        ("", 0o600, "32 or more"),
        ("FRgTUuTyexbBcQ0bhOE", 0o600, "32 or more"),
        ("a" * 64, 0o600, "32 or more"),
        ("two words of some length, but with spaces", 0o600, "32 or more"),
    ],
)
def test_a_file_must_be_private_and_hold_a_long_secret(
    content: str, mode: int, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    if not says:
        assert load_token(path)[1] == content.strip()
        return
    with pytest.raises(ServingError, match=says) as caught:
        load_token(path)
    assert not content or content not in str(caught.value)


def test_a_token_file_must_be_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "no/such/folder"):
        with pytest.raises(ServingError, match=name):
            load_token(tmp_path / name)
