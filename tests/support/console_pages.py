"""Every page of the console, for the tests that open each and for `make screenshots`: a new page needs a line here."""

from __future__ import annotations

# Name to path; what they show comes from `tests.support.console_world`.
PAGES = {
    "overview": "/console/",
    "alerts": "/console/alerts",
    "alerts-of-a-kind": "/console/alerts?kind=model_failed",
    "settings": "/console/settings",
    "doctor": "/console/settings?doctor=1",
}
