"""The secret: made well, kept private, compared without telling."""

from __future__ import annotations

import os
import secrets
import stat
import time
from pathlib import Path

import pytest

from search.dashboard import ServingError
from search.dashboard.token import Token, load_token


def test_a_missing_file_is_made_and_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token, secret = load_token(tmp_path / "token")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len(secret) >= 43  # 256 bits in base64
    assert token.matches(secret)
    again, same = load_token(tmp_path / "token")
    assert same == secret
    assert again.matches(secret)
    assert load_token(tmp_path / "other")[1] != secret


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o601])
def test_a_file_that_others_may_open_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    load_token(path)
    path.chmod(mode)
    with pytest.raises(ServingError, match=f"{mode:03o}.*chmod 600"):
        load_token(path)


@pytest.mark.parametrize(
    "secret",
    [
        "d54b922ac5a179e1f0066c3f55031755",
        "73C8F1D76A1DC2EAE4BE1BF1F489F8D6",
    ],
)
def test_long_secrets_will_do(secret: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {secret}\n")
    path.chmod(0o600)
    assert load_token(path)[1] == secret


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "hunter2",
        "FRgTUuTyexbBcQ0bhOE",
        "a" * 64,
        "two words of some length, but with spaces",
        "x;y" * 40,
    ],
)
def test_weaker_ones_will_not(secret: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(secret)
    path.chmod(0o600)
    with pytest.raises(ServingError, match="32 or more") as caught:
        load_token(path)
    assert not secret.strip() or secret.strip() not in str(caught.value)


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "folder", "dangling", "no/such/folder"):
        with pytest.raises(ServingError, match=name):
            load_token(tmp_path / name)


def test_only_the_very_same_matches_and_no_representation_shows_it() -> None:
    secret = secrets.token_urlsafe(32)
    token = Token(secret)
    assert token.matches(secret)
    for other in ("", secret[:-1], f"{secret}x", f" {secret}", secret.swapcase(), "ü", "\udcff"):
        assert not token.matches(other)
    assert secret not in f"{token!r} {token} {vars(token)} {token.session()}"


def test_a_session_ends_after_twelve_hours_and_cannot_be_prolonged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token, now = Token(secrets.token_urlsafe(32)), time.time()
    session = token.session()
    ends, _, signature = session.partition(".")

    def is_let_in(value: str, after_seconds: float = 0.0) -> bool:
        monkeypatch.setattr(time, "time", lambda: now + after_seconds)
        return token.is_session(value)

    assert is_let_in(session)
    assert is_let_in(session, 12 * 3600 - 60)
    assert not is_let_in(session, 12 * 3600 + 60)
    for forged in (f"{int(ends) + 1}.{signature}", f".{signature}", signature, "", "9" * 5000):
        assert not is_let_in(forged), forged
    assert not Token("x" * 40).is_session(session)
