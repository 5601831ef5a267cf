"""EC2's instance metadata service, version 2: who this host is, and whether it is to go.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import http.client
import json
import re
from urllib.parse import urlsplit

from appliance.domain.errors import Unavailable
from appliance.domain.notice import Seen

DEPENDENCY = "ec2"
#: A token lives for six hours at most; a 401 asks for the next one sooner.
TOKEN_LIFE_SECONDS = 21_600
#: It is on this machine: what does not answer in this time is not there. Each step of a request has as long.
TIMEOUT_SECONDS = 2.0
#: Its answers are a line long.
ANSWER_BYTES = 1 << 16
DATA = "/latest/meta-data"
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,32}")
HINT = (
    "Nothing is assumed meanwhile. Off EC2 set fleet.notices: false; on it, let the instance's metadata options allow "
    "IMDSv2 (in a container with a hop limit of 2)."
)


class Metadata:
    """`url` without a path. No proxy is asked, nothing is tried twice but for a token. Raises Unavailable("ec2", …)."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds
        self._token = ""

    def instance_id(self) -> str:
        """`i-…`. What has no such name is no instance of EC2."""
        found = self._get("instance-id")
        if not INSTANCE_ID.fullmatch(found):
            raise self._unavailable("gives no instance-id")
        return found

    def look(self) -> Seen:
        """What it says now."""
        spot = self._document("spot/instance-action")
        rebalance = self._document("events/recommendations/rebalance")
        return Seen(
            spot_action=spot.get("action", ""),
            spot_time=spot.get("time", ""),
            rebalance_time=rebalance.get("noticeTime", ""),
            target_state=self._get("autoscaling/target-lifecycle-state"),
        )

    def _document(self, path: str) -> dict[str, str]:
        """A JSON object with words in it; empty when there is none. What is neither is no notice to act on."""
        text = self._get(path)
        if not text:
            return {}
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(word, str) for word in found.values()):
            raise self._unavailable(f"answers {path} with something unreadable")
        return found

    def _get(self, path: str) -> str:
        """The answer; empty: there is none (404). A token that is refused (401) is made anew, once."""
        for _ in range(2):
            if not self._token:
                self._token = self._new_token()
            status, text = self._ask("GET", f"{DATA}/{path}", {"X-aws-ec2-metadata-token": self._token})
            if status == http.HTTPStatus.OK:
                return text.strip()
            if status == http.HTTPStatus.NOT_FOUND:
                return ""
            if status != http.HTTPStatus.UNAUTHORIZED:
                break
            self._token = ""
        raise self._unavailable(f"answers {path} with {status}")

    def _new_token(self) -> str:
        life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE_SECONDS)}
        status, text = self._ask("PUT", "/latest/api/token", life)
        if status != http.HTTPStatus.OK or not text:
            raise self._unavailable(f"gives no token ({status})")
        return text

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        address = urlsplit(self._url)
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port or 80, timeout=self._timeout_seconds
        )
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES).decode("ascii", "replace")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unavailable(f"does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(DEPENDENCY, f"The metadata service of EC2 at {self._url} {what}.", hint=HINT)
