"""optuna-dashboard, guarded: what stands between its application and whoever connects.

It has no authentication and no Host or Origin check of its own. `guard` is WSGI middleware that
lets through only routes which were read and judged (`routes`), asked for under a known name
(`origins`), with bodies that Optuna can store and read again (`bodies`), and answers under headers
that leave a browser nothing to run but the dashboard's own bundle (`headers`, `cells`). `token` is
for others than this host, `server` starts and stops.
"""
