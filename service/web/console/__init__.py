"""The web console, for people: pages under `/console/`, rendered by the server.

Why: `docs/decisions/0035-a-console-without-a-build.md`.
"""
