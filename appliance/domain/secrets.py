"""What no log, page, row or error may show: found by a field's name, by the look of a text, and by value."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Instead of a secret.
HIDDEN = "…"
#: A field whose name contains one of these is not written out. Lease tokens are no secrets: they open nothing.
KEYS = (
    *("password", "passwd", "secret", "credential", "authorization", "dsn", "session_token", "security_token"),
    *("api_key", "apikey", "access_key", "accesskey", "private_key", "cookie", "signature"),
)
#: Shorter values are words; hiding them would hide half of every sentence.
SHORTEST_VALUE = 6
_NAMED = r"(?:password|passwd|pwd|secret_?access_?key|session_?token|security_?token|access_?token|api_?key)"
_SIGNING = r"X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|Credential|Policy|sig"
#: What stands before a secret, and the secret: passwords in URLs, `password=…` in any dress, HTTP's Authorization,
#: what signs a presigned URL, and AWS's key ids.
PATTERNS = tuple(
    re.compile(f"({before}){secret}", re.IGNORECASE)
    for before, secret in (
        (r"://[^/\s:@]*:", r"\S+(?=@)"),
        (rf"{_NAMED}[\"']?\s*[=:]\s*", r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&]+)"),
        (r"\bauthorization[\"']?\s*[=:]\s*[\"']?", r"[^\"'\r\n]+"),
        (r"\bbearer\s+", r"[\w.+/=~-]{8,}"),
        (rf"\b(?:{_SIGNING})=", r"[^&\s\"',]+"),
        ("", r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    )
)


def redacted(text: str, values: Iterable[str] = ()) -> str:
    """The text without what looks like a secret or is one of `values`."""
    for value in values:
        if len(value) >= SHORTEST_VALUE:
            text = text.replace(value, HIDDEN)
    for pattern in PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def without_secrets(value: object, values: Iterable[str] = ()) -> object:
    """The same through dictionaries and lists, however deep; what is neither number nor truth becomes text."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if is_secret(key) and item else without_secrets(item, values) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item, values) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted(str(value), values)


def is_secret(key: object) -> bool:
    """By the name of a field; the path of a file that holds a secret is none."""
    name = str(key).lower()
    return not name.endswith("_file") and any(word in name for word in KEYS)


def secrets_of(url: str) -> set[str]:
    """The password inside a URL or a DSN, as it stands there."""
    found = re.findall(r"://[^/\s:@]*:(\S+)@", url) + re.findall(r"\bpassword\s*=\s*('[^']*'|\S+)", url, re.IGNORECASE)
    return {password.strip("'") for password in found}
