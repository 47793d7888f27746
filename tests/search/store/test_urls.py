"""URLs as they are shown: no piece of a password, however it was written."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.store import NOT_SHOWN, StorageError, mask_password, without_password
from search.store.opening import open_database

SECRET = "hunter2"
FORMS = (  # of a URL with user and password, well-formed or not
    "postgresql://{user}:{word}@host/db",
    "postgresql://{user}:{word}@host:5432/db?sslmode=require",
    "postgresql+psycopg://{user}:{word}@/db?host=/var/run",
    "POSTGRES://{user}:{word}@[::1]/db",
    "postgresql:/{user}:{word}@host/db",
    "postgresql:{user}:{word}@host/db",
    "{user}:{word}@host/db",
    "{user}:{word}@host",
    " postgresql://{user}:{word}@host/db",
    "postgresql://us/er:{word}@host/db",
    "mysql://{user}:{word}@host/db",
    "postgresql://host/db?user={user}&password={word}",
    "postgresql://host/db?PassWord={word}",
    "postgresql://host/db?pass%77ord={word}&user=me",
    "postgresql://host/db?p%2561ssword={word}",
    "postgresql://host/db?sslpassword={word}&x=1",
    "postgresql://host/db?passfile={word}",
    "postgresql://host/db?dbname=postgresql://{user}:{word}@host/db",
    "postgresql://host/db?dbname=postgresql%3A%2F%2Fme%3A{word}%40host",
    "postgresql://host/db?options=-c%20password%3D{word}",
    "postgresql:///postgresql://me:{word}",
    "sqlite:///postgresql://me:{word}@host/db",
)


@pytest.mark.parametrize(
    ("url", "masked", "bare"),
    [
        (url, url, url)
        for url in (
            "sqlite:///studies.db",
            "sqlite:///a:b@c.db",
            "sqlite:////absolute/my studies.db",
            "postgresql://me@host/db",
            "postgresql://me@/db?host=/var/run/postgresql&sslmode=require",
            "postgresql://me%40corp@host/db?keepalives=1",
            "mongodb://x/y",
            "nonsense",
            "../studies.db",
        )
    ]
    + [
        ("postgresql://me:pass@host/db", "postgresql://me:***@host/db", "postgresql://me@host/db"),
        ("postgresql://me:***@h:1/db", "postgresql://me:***@h:1/db", "postgresql://me@h:1/db"),
        ("postgresql://:pass@host/db", "postgresql://:***@host/db", "postgresql://@host/db"),
        ("postgresql://me:p:w/r?d\n@h/db", "postgresql://me:***@h/db", "postgresql://me@h/db"),
        (
            "postgresql:///db?password=pass&user=me",
            "postgresql:///db?password=***&user=me",
            "postgresql:///db?user=me",
        ),
        ("postgresql:///db?sslpassword=x", "postgresql:///db?sslpassword=***", "postgresql:///db"),
        ("postgresql://h/db?password=a&b=c", "postgresql://h/db?b=c&password=***", "postgresql://h/db?b=c"),
        ("postgresql://me:p@ss:w/rd@host:5432/db", NOT_SHOWN, NOT_SHOWN),
        ("postgresql://us/er:pass@host/db", NOT_SHOWN, NOT_SHOWN),
        ("postgresql:/me:pass@host/db", NOT_SHOWN, NOT_SHOWN),
        ("me:pass@host", NOT_SHOWN, NOT_SHOWN),
    ],
)  # fmt: skip
def test_what_is_shown(url: str, masked: str, bare: str) -> None:
    assert mask_password(url) == masked
    assert without_password(url) == bare


@settings(deadline=None, database=None, max_examples=500)
@given(
    form=st.sampled_from(FORMS),
    user=st.text(max_size=8).filter(lambda text: SECRET not in text),
    before=st.text(st.characters(exclude_characters="&"), max_size=4),
    after=st.text(st.characters(exclude_characters="&"), max_size=4),
    signs=st.text("@:/?#%&=\n[] ", max_size=4),
)
def test_no_url_shows_its_password(
    form: str, user: str, before: str, after: str, signs: str
) -> None:
    word = f"{before}{SECRET}{signs.replace('&', '')}{after}"
    url = form.format(user=user, word=word)
    assert SECRET not in mask_password(url)
    assert SECRET not in without_password(url)


def refused(url: str) -> str:
    """The line that it is refused with; nothing in the traceback may show the secret."""
    with pytest.raises(StorageError) as caught:
        open_database(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_errors_do_not_show_it(form: str) -> None:
    refused(form.format(user="me", word=f"a{SECRET}b").replace("host", "127.0.0.1:1", 1))


@pytest.mark.usefixtures("guarded")
def test_a_server_that_asks_for_a_password(postgres: Any) -> None:
    postgres.execute("ALTER ROLE guarded PASSWORD 'right{%}@/word'")
    wrong = postgres.url("guarded", user=f"guarded:{SECRET}")
    assert "password authentication failed" in refused(wrong)
    right = postgres.url("guarded", user="guarded:right%7B%25%7D%40%2Fword")
    with closing(open_database(right)) as db:
        assert "word" not in repr(db)
        assert ":***@" in db.url
