"""Browse studies in a web browser: optuna-dashboard, with our content and behind our guard."""

from __future__ import annotations

import ipaddress
import sys
from contextlib import suppress
from pathlib import Path

from search.dashboard.server import LOOPBACK_NAMES, ServingError, check_host_name, listen, serve
from search.terminal.commands import Parser, run
from search.terminal.stopping import StopOnSignal

EXAMPLES = """
python -m search.dashboard                      # http://127.0.0.1:8080, read-only
python -m search.dashboard --edit               # with notes and deletion
python -m search.dashboard --token-file dashboard.token      # on a machine that others use, too
ssh -L 8080:127.0.0.1:8080 gpu7                 # then open http://127.0.0.1:8080 at home
python -m search.dashboard --host 0.0.0.0 --allow-host gpu7 --token-file dashboard.token
"""


def parser() -> Parser:
    own = Parser(
        description="Browse studies in a web browser: notes, learning curves, what the search has "
        "found. Read-only without --edit. Without a token, all users of this machine, and only "
        "they, can open it.",
        examples=EXAMPLES,
    )
    own.add("storage", "runs-dir")
    own.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where to listen; an address that other hosts can reach needs a token, which plain "
        "HTTP exposes to anyone on the network path",
    )
    own.add_argument("--port", type=int, default=8080, help="0 picks any free port")
    own.add_argument("--edit", action="store_true", help="let pages write notes and delete studies")
    own.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="require the secret in this file to log in; the file is created if there is none",
    )
    own.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        help="another host name by which browsers may reach this server; may be repeated",
    )
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    host, *allowed = map(check_host_name, [args.host, *(args.allow_host or ())])
    with listen(host, args.port) as listening, StopOnSignal() as stopping:
        address = ipaddress.ip_address(listening.getsockname()[0])
        if args.token_file is None and not address.is_loopback:
            raise ServingError(
                f"--host {args.host} lets other hosts connect without authentication; "
                "add --token-file FILE, or keep 127.0.0.1 and use ssh -L"
            )
        # Not needed for --help, and with the plotting libraries they take seconds to import.
        import optuna_dashboard
        from sqlalchemy.exc import SQLAlchemyError
        from werkzeug.exceptions import ServiceUnavailable

        from search.dashboard.content import ArtifactStore
        from search.dashboard.guard import Guard, load_token
        from search.store import StudyGoneError
        from search.store.database import explain, transaction
        from search.store.folders import ARTIFACTS, runs_folder, usable
        from search.store.opening import forbid_writing, open_database

        folder = usable(runs_folder(args.storage, args.runs_dir) / ARTIFACTS, write=args.edit)
        token, secret = (None, "") if args.token_file is None else load_token(args.token_file)
        db = open_database(args.storage)
        with suppress(OSError):  # without it there are no pictures
            folder.mkdir(parents=True, exist_ok=True)
        if not args.edit:
            forbid_writing(db)
        app = optuna_dashboard.wsgi(db.optuna, artifact_store=ArtifactStore(folder))

        def check() -> None:
            """Show nothing while the database is unavailable."""
            try:
                with transaction(db, read_only=True):
                    pass
            except StudyGoneError as error:
                raise ServiceUnavailable(str(error)) from error
            except SQLAlchemyError as error:
                raise ServiceUnavailable(f"{db.url}: {explain(error)}") from error

        names = [host, *allowed][address.is_unspecified :]
        hosts = LOOPBACK_NAMES.union(names)
        guard = Guard(app, hosts=hosts, edit=args.edit, token=token, check=check)
        url = f"http://{names[0] if names else '127.0.0.1'}:{listening.getsockname()[1]}/"
        mode = "changes are allowed" if args.edit else "read-only (--edit to change)"
        print(url, flush=True)
        print(f"The dashboard of {db.url}: {mode}. Press Ctrl-C to stop it.", file=sys.stderr)
        if secret:  # shown only on a terminal, not in a log
            shown = secret if sys.stdout.isatty() else f"... (from {args.token_file})"
            print(f"Log in once at {url}?token={shown}", flush=True)
        if stopping.signal is None:  # else a destructor swallowed its KeyboardInterrupt
            serve(guard, listening)
        db.close()
    return stopping.exit_code


if __name__ == "__main__":
    run(main)
