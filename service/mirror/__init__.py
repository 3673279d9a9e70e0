"""From observations to rows: what the mirror knows, and how it learns it.

Pure: `merge`, `observe`, `webhooks` (parses an event), `walk`, `codec`, `batches`, `error_scope`.
Writing: `apply` (a batch), `single` (a GET), `pages` (of a pull).
Work: `drain`, `pull`, `deletions`, `refetch`, `profiles`, `detail_sweep`, `replay`, `verify`, `erasure`, `retention`.
"""
