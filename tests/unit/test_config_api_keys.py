"""MIRROR_API_KEYS: what each form of an entry means, and that a malformed one is refused without its key."""

from __future__ import annotations

import pytest

from service.config.api_keys import Scope, parse


@pytest.mark.parametrize(
    ("entry", "name", "scope", "key"),
    [
        ("secret", "#1", Scope.WRITE, "secret"),
        ("ro:secret", "#1", Scope.READ, "secret"),
        ("metrics:secret", "#1", Scope.METRICS, "secret"),
        ("billing=secret", "billing", Scope.WRITE, "secret"),
        ("billing=ro:secret", "billing", Scope.READ, "secret"),
        ("Prometheus 1=metrics:secret", "Prometheus 1", Scope.METRICS, "secret"),
        # Only these two words are scopes, written exactly so.
        ("rw:secret", "#1", Scope.WRITE, "rw:secret"),
        ("RO:secret", "#1", Scope.WRITE, "RO:secret"),
        ("billing=admin:secret", "billing", Scope.WRITE, "admin:secret"),
        ("ro:metrics:secret", "#1", Scope.READ, "metrics:secret"),
        ("ro", "#1", Scope.WRITE, "ro"),
        # A key in base64 ends in `=`.
        ("YWJjZA==", "#1", Scope.WRITE, "YWJjZA=="),
        ("YWJjZGU=", "#1", Scope.WRITE, "YWJjZGU="),
        ("ro:YWJjZA==", "#1", Scope.READ, "YWJjZA=="),
        ("billing=YWJjZA==", "billing", Scope.WRITE, "YWJjZA=="),
        ("billing=ro:YWJjZGU=", "billing", Scope.READ, "YWJjZGU="),
        ("a==b", "#1", Scope.WRITE, "a==b"),
    ],
)
def test_entry_gives_name_scope_and_key(entry: str, name: str, scope: Scope, key: str) -> None:
    (one,) = parse([entry])
    assert (one.name, one.scope, one.key) == (name, scope, key)
    assert key not in repr(one)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["good", "ro:"], "entry 2 has no key"),
        (["metrics:"], "entry 1 has no key"),
        (["billing=ro:"], "entry 1 has no key"),
        (["=hunter2"], "the name of entry 1"),
        (["x" * 65 + "=hunter2"], "the name of entry 1"),
        (["bill\x1bing=hunter2"], "the name of entry 1"),
        (["a=hunter1", "b=hunter2", "a=ro:hunter2"], "entry 3 has the name"),
    ],
)
def test_malformed_entry_is_refused_without_its_key(entries: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse(entries)
    assert "hunter" not in str(refused.value)
