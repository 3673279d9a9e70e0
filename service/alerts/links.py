"""The one place that builds the links of notifications: pages of the console, sections of the runbook. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from typing import Self

    from service.config import Settings

# Where the runbook is in the source, for deployments with neither RUNBOOK_URL nor PUBLIC_URL: no link can be made then.
RUNBOOK = "docs/operations/runbook.md"

Page = Literal["alerts", "models", "pulls", "events"]


class Links(NamedTuple):
    """The addresses that links begin with.

    Attributes:
        web: where people reach the web process, without a slash at its end; None where that is not known.
        console: whether the console is on there.
        runbook: where people read the runbook.
    """

    web: str | None = None
    console: bool = False
    runbook: str = RUNBOOK

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The addresses of a deployment."""
        web = settings.public_url.rstrip("/") if settings.public_url else None
        served = f"{web}/runbook" if web else RUNBOOK
        return cls(web, settings.is_console_on, settings.runbook_url or served)

    def page(self, kind: Page, number: int | str) -> str | None:
        """The console's page about an alert, a model, a pull or an event; None without a console."""
        return f"{self.web}/console/{kind}/{quote(str(number), safe='')}" if self.web and self.console else None

    def section(self, alert_kind: str) -> str:
        """The runbook's section about a kind of alert."""
        return f"{self.runbook}#{alert_kind}"
