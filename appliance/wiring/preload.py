"""What the fork server imports once, so that every child is forked with it: the one module whose import does something.

The descriptions of S3 and SQS and everything imported so far are laid aside where the garbage collector does not look:
a collection in a child would write to each object's page, and so copy it.
"""

from __future__ import annotations

import gc

from appliance.adapters import aws
from appliance.wiring.memory import one_heap, without

with without("rich"):  # structlog has it for coloured tracebacks: 3 MiB
    import appliance.wiring.encoder  # noqa: F401
one_heap()
aws.read_models("s3", "sqs")
gc.collect()
gc.freeze()
