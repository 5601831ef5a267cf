"""A parameter of Systems Manager as a note with an age, by AWS's own clock."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable
from appliance.domain.refusal import cure

DEPENDENCY = "ssm"


class Parameter:
    """`client` is boto3's ssm client. Every method raises Unavailable("ssm", …)."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def age_seconds(self) -> float | None:
        """How long ago it was written; None when there is none."""
        answer = self._call("get_parameter", absent={})
        if not answer:
            return None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(0.0, float((now - answer["Parameter"]["LastModifiedDate"]).total_seconds()))

    def put(self, text: str) -> None:
        self._call("put_parameter", Value=text, Type="String", Overwrite=True)

    def delete(self) -> None:
        """One that is gone already is no error."""
        self._call("delete_parameter", absent={})

    def _call(self, method: str, *, absent: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """`absent` is the answer when there is no such parameter."""
        try:
            answer: dict[str, Any] = getattr(self._client, method)(Name=self._name, **arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
            if code == "ParameterNotFound" and absent is not None:
                return absent
            known = cure(code, f"ssm:{error.operation_name}") if isinstance(error, ClientError) else ""
            hint = f"{known or 'Check the network and the instance role.'} Nothing is scaled meanwhile."
            raise Unavailable(
                DEPENDENCY, f"Systems Manager refused or did not answer {method}: {error}", hint=hint
            ) from error
        return answer
