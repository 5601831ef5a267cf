from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest

from appliance.domain.errors import Unavailable
from appliance.wiring import adapters
from tests.encoder.stage import make_world


def test_f10_an_sqs_that_accepts_and_never_answers_costs_one_call_of_the_polls_length(
    dsn, redis_url, aws, queue_url, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(adapters, "POLL_MARGIN_SECONDS", 0.2)
    config = make_world(dsn, redis_url, aws, queue_url, tmp_path).config
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as deaf:

        def accept() -> None:
            while len(taken) < 3:
                try:
                    taken.append(deaf.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        config = replace(config, aws=replace(config.aws, endpoint_url=address))
        with pytest.raises(Unavailable):
            adapters.doorbell(config).receive(1)
        deaf.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()
    assert len(taken) == 1
