from __future__ import annotations

from dataclasses import dataclass

from appliance.domain.receipt import WARNING_CHARACTERS, WARNINGS, Receipt, Whole


@dataclass(frozen=True)
class Spent:
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    media_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


def test_figures_add_up_and_the_peak_is_the_highest():
    receipt = Receipt().plus(cpu_seconds=1.0, peak_memory_bytes=50).plus(cpu_seconds=2.0, peak_memory_bytes=40)
    assert (receipt.cpu_seconds, receipt.peak_memory_bytes) == (3.0, 50)


def test_a_chunk_of_ones_own_is_on_the_attempts_bill():
    receipt = Receipt().plus_chunk(Spent(cpu_seconds=4.0, peak_memory_bytes=7, media_seconds=12.0, bytes_out=9))
    assert (receipt.cpu_seconds, receipt.peak_memory_bytes, receipt.rung_seconds) == (4.0, 7, 12.0)
    assert receipt.overhead_cpu_seconds == 0.0


def test_the_video_cost_what_its_chunks_cost_whoever_made_them_and_the_last_attempts_overhead():
    own, assisted = Spent(4.0, 70, 12.0, 0, 9), Spent(5.0, 90, 24.0, 1000, 11)
    attempt = Receipt(bytes_in=500).plus(cpu_seconds=1.0, overhead_cpu_seconds=1.0, peak_memory_bytes=80)
    receipt = attempt.plus_chunk(own).finished([own, assisted])
    assert receipt.cpu_seconds == 5.0
    assert receipt.video == Whole(
        cpu_seconds=10.0, peak_memory_bytes=90, bytes_in=1500, bytes_out=20, rung_seconds=36.0
    )
    assert receipt.to_json()["video"]["cpu_seconds"] == 10.0


def test_a_warning_stands_there_once_cut_and_not_without_end():
    receipt = Receipt().warned("a", "b", "a").warned("a" * 1000)
    assert receipt.warnings == ("a", "b", "a" * WARNING_CHARACTERS)
    assert len(receipt.warned(*map(str, range(100))).warnings) == WARNINGS
