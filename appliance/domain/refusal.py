"""Why AWS refuses a call, by its error codes: what an operator does about it."""

from __future__ import annotations

#: What services call an account that they do not let in: who it is, or this host's clock, not what it may do.
STRANGERS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed", "InvalidToken"}
    | {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
    | {"AuthFailure"}
)


def cure(code: str, action: str) -> str:
    """`action` as IAM names it (`cloudwatch:GetMetricData`). Empty where the code alone says too little.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, "Common error codes".
    """
    if "AccessDenied" in code or "Unauthorized" in code:
        return f"The instance role lacks {action}; config/iam-policy.json has it."
    if "Expired" in code or "Skewed" in code or "Signature" in code:
        return "Is this host's clock right? AWS refuses one that is minutes off; chrony keeps it."
    return "It is asked again: AWS is asked too often." if "Throttl" in code or "LimitExceeded" in code else ""
