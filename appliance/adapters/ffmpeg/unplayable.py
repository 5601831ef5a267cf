"""Why a file is refused, said to whoever uploaded it."""

from __future__ import annotations

from typing import Any

from appliance.domain.errors import SourceRejected

#: ffprobe's JSON of one stream, or of the whole file.
Fields = dict[str, Any]
#: Dolby Vision's profile without a compatible base layer.
DOLBY_ONLY = 5
NEXT_STEP = "Upload the recording again, exported as MP4 (H.264 and AAC)."


def unreadable(words: str) -> SourceRejected:
    """ffprobe opened nothing; its words tell a protected or oversized recording from what is no recording at all."""
    if "encrypt" in words:
        return SourceRejected("The recording is copy-protected and cannot be read.", code="encrypted", hint=NEXT_STEP)
    if "max pixel count" in words:
        return SourceRejected("The picture has more pixels than the operator allows.", code="too_large", hint=NEXT_STEP)
    return SourceRejected(
        "The file is not a video or audio recording, or its beginning is damaged beyond reading.",
        code="not_media",
        hint=NEXT_STEP,
    )


def refuse_protected(stream: Fields) -> None:
    """Protected samples can decode as noise with status 0 (ISO/IEC 23001-7: sample entries `encv`, `enca`).

    Dolby Vision without a base that other decoders know (profile 5) decodes in false colours.
    """
    if stream.get("codec_tag_string") in ("encv", "enca"):
        raise SourceRejected("The recording is copy-protected and cannot be read.", code="encrypted", hint=NEXT_STEP)
    if any(side.get("dv_profile") == DOLBY_ONLY for side in stream.get("side_data_list", [])):
        raise SourceRejected(
            "The recording is in Dolby Vision profile 5, whose colours can only be shown by Dolby's own decoder.",
            code="unsupported",
            hint="Record or export it as HDR10, HLG or SDR.",
        )


def nothing_decodes(described: Fields, *, no_decoder: bool) -> SourceRejected:
    """Of a file that opened and gave no frame: nothing in it, no decoder for it, or damage."""
    kinds = {stream.get("codec_type") for stream in described["streams"]}
    codecs = sorted({stream["codec_name"] for stream in described["streams"] if stream.get("codec_name")})
    if not kinds & {"video", "audio"}:
        return SourceRejected("The file holds neither picture nor sound.", code="no_media_stream", hint=NEXT_STEP)
    if no_decoder or not codecs or "unknown" in codecs or None in (s.get("codec_name") for s in described["streams"]):
        return SourceRejected("The file uses a codec that cannot be decoded here.", code="unsupported", hint=NEXT_STEP)
    return SourceRejected(
        f"Not one frame of the file can be decoded ({', '.join(codecs)}).", code="corrupt", hint=NEXT_STEP
    )
