"""From observations to rows: what the mirror knows, and how it learns it.

Pure: `merge`, `observe`, `webhooks` (parses an event), `walk`, `codec`, `batches`, `error_scope`.
Writing: `apply` (a batch), `single` (a GET), `pages` (of a pull).
Work: `drain`, `replay`; `pull`, `deletions`, `held_pulls`; `refetch`, `profiles`, `detail_sweep`; `verify`; `erasure`,
`retention`.
"""
