"""The command `sandbox`: options in, a running vendor out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.errors import MirrorError, SettingsError
from service.local.sandbox.switches import InitialState, Switches, parse_switches

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DEFAULTS = Switches()
FIRST = InitialState()
EPILOG = """\b
Example:
  headshot-mirror sandbox --models 500 --port 8100 --speed 10 \\
    --webhook-url http://127.0.0.1:8000/webhooks/headshotpro
  curl -H "Authorization: Bearer $KEY" "http://127.0.0.1:8100/api/v2/organization/models?limit=3"
"""


def switch_option(name: str, form: Any, words: str, metavar: str | None = None) -> Decorator:
    """An option that is one of the switches; its default and bounds are theirs."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=form,
        default=getattr(DEFAULTS, name),
        show_default=True,
        metavar=metavar,
        help=words,
    )


@click.command(epilog=EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; the control API has no key.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0, the default, takes a free one.")
@click.option(
    "--models", type=click.IntRange(0), default=FIRST.models, show_default=True, help="Models that exist at first."
)
@click.option("--seed", type=int, default=FIRST.seed, show_default=True, help="Seeds people, ids, lives and faults.")
@click.option("--credits", type=click.IntRange(0), default=FIRST.credits, show_default=True, help="Models to spend.")
@click.option("--api-key", help="Bearer key of the API; random by default.")
@click.option("--webhook-secret", help="Secret of the webhooks; 64 random hex digits by default.")
@click.option("--webhook-url", help="Where events are delivered; nowhere by default.")
@click.option(
    "--state", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps the state between starts."
)
@click.option("--with-parent", is_flag=True, help="End when the process that started this one ends.")
@click.option("--no-whitelabel", is_flag=True, help="No whitelabel feature: creating is forbidden, no signedUrl.")
@click.option("--quiet", is_flag=True, help="Nothing happens by itself: no births, no lives, only what is asked for.")
@switch_option("births", float, "New models that appear by themselves.", "PER_MINUTE")
@switch_option("speed", float, "How much faster lives and webhook retries go.", "FACTOR")
@switch_option("failure_rate", float, "Share of trainings and generations that fail, and restart later.", "P")
@switch_option("rate", int, "Requests a minute; 0 sets no limit.")
@switch_option("rate_window", float, "Length of that minute.", "SECONDS")
@switch_option("order", click.Choice(["newest", "oldest"]), "Which models the list shows first.")
@switch_option("deleted", click.Choice(["hidden", "listed"]), "Whether deleted models stay in the list.")
@switch_option(
    "dialect", click.Choice(["models", "others"]), "Error codes as the page on models has them, or other pages."
)
@switch_option(
    "webhook_form", click.Choice(["full", "bare", "mixed"]), "Bodies with id and createdAt, without, or both kinds."
)
@switch_option("retry_signing", click.Choice(["anew", "first"]), "Whether a retry is signed anew or for its first try.")
@switch_option("loss", float, "Share of events that are never delivered.", "P")
@switch_option("duplicates", float, "Share of events that are delivered twice.", "P")
@switch_option("reorder", float, "Random delay of events, at most.", "SECONDS")
@switch_option("errors", float, "Share of answers that are 500, broken JSON or a dropped connection.", "P")
@switch_option("slow", float, "Random delay of answers, at most.", "SECONDS")
@switch_option("drift", float, "Share of list requests before which models come and go.", "PER_REQUEST")
@switch_option("replica_lag", float, "How far reads are behind, at most.", "SECONDS")
@switch_option("skew", float, "How far the vendor's clock is ahead.", "SECONDS")
def sandbox(
    *,
    host: str,
    port: int,
    with_parent: bool,
    no_whitelabel: bool,
    state: Path | None,
    **given: Any,
) -> None:
    """Run the vendor's API and webhooks, for trials and tests.

    The first line on stdout is JSON: url, api_key, webhook_secret. SIGTERM and Ctrl-C end it, with its state kept.
    A state file that exists already has its own models, seed and credits: --models, --seed and --credits are for new
    ones.
    """
    # Standard sockets and sleeps must give way to each other before anything below is imported.
    from gevent import monkey  # noqa: PLC0415

    monkey.patch_all()
    from service.local.sandbox.core import open_sandbox  # noqa: PLC0415
    from service.local.sandbox.server import serve  # noqa: PLC0415

    try:
        initial = InitialState(**{name: given.pop(name) for name in InitialState.__struct_fields__})
        turned = parse_switches({**given, "whitelabel": not no_whitelabel})
        serve(open_sandbox(turned, initial, state), host, port, with_parent=with_parent)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except MirrorError as error:
        raise click.ClickException(str(error)) from None
