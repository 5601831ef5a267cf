"""What the Auto Scaling group is told: by the winner of a tick how many hosts the backlog needs (direct mode), by every
host whether it may be let go, and when it has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ssm import Parameter
from appliance.domain.errors import Unavailable
from appliance.domain.fleet import Mark, Step, decide, lifecycle, protection
from appliance.supervisor.board import Board
from appliance.supervisor.dependencies import Dependencies

OBSERVER = "fleet"
#: A slot that begins to work is protected this soon.
TURN_SECONDS = 1.0
#: What was refused or not answered is not tried again sooner.
AGAIN_SECONDS = 30.0


class Director:
    """`note` tells every host since when fewer would do. Raises Unavailable, and then nothing was scaled."""

    def __init__(self, group: ScalingGroup, note: Parameter, *, stable_zero_seconds: float) -> None:
        self._group, self._note = group, note
        self._stable_zero_seconds = stable_zero_seconds
        self._log = structlog.get_logger()
        self._said = ""

    def steer(self, backlog: int, slots_per_host: int) -> None:
        """One decision. The note first: where the group then does not answer, the hosts only stay for longer."""
        group = self._group.look()
        decision = decide(
            backlog,
            group,
            slots_per_host=slots_per_host,
            spare_seconds=self._note.age_seconds(),
            stable_zero_seconds=self._stable_zero_seconds,
        )
        if decision.mark is Mark.SET:
            self._note.put("fewer hosts would do")
        elif decision.mark is Mark.CLEAR:
            self._note.delete()
        if decision.desired is not None:
            self._group.want(decision.desired)
        kind = f"{decision.desired} {decision.mark}"
        if decision.desired is not None or kind != self._said:
            self._log.info("FLEET_DECISION", group=self._group.name, desired=decision.desired, reason=decision.reason)
        self._said = kind


class Member:
    """One host of the group: it reads the board and tells the group, in a thread with a `group` of its own.

    `hook`: the name of the lifecycle hook on the end of hosts; empty: there is none.
    """

    def __init__(
        self, group: ScalingGroup, *, hook: str, board: Board, dependencies: Dependencies, clock: Callable[[], float]
    ) -> None:
        self._group, self._hook = group, hook
        self._board, self._dependencies, self._clock = board, dependencies, clock
        self._log = structlog.get_logger()
        self._tell_at = float("-inf")
        self._rested_at = clock()
        self._beat_at: float | None = None
        self._completed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join(seconds)

    def turn(self) -> None:
        """Tell what has changed. Never raises: encoding goes on whatever the group says."""
        now = self._clock()
        busy = sum(slot.video_id is not None for slot in self._board.slots)
        if busy:
            self._rested_at = now
        if not self._board.instance_id or now < self._tell_at:
            return
        try:
            if self._board.seen.terminating:
                self._hold_up(now)
            elif not self._board.taken_away:
                self._protect(protection(busy, now - self._rested_at, self._board.protected))
        except Unavailable:
            self._tell_at = now + AGAIN_SECONDS  # noted; by then it may be something else that is to be told
        except Exception:  # noqa: BLE001 - a mistake of ours is no reason to stop
            self._tell_at = now + AGAIN_SECONDS
            self._log.exception("FLEET_FAILED")

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            self._stop.wait(TURN_SECONDS)
        self._let_go()

    def _protect(self, on: bool | None) -> None:
        if on is None:
            return
        with self._dependencies.watched(OBSERVER, "autoscaling"):
            self._group.protect(self._board.instance_id, on=on)
        self._board.protected = on
        self._log.info("SCALE_IN_PROTECTION", on=on, group=self._group.name, instance_id=self._board.instance_id)

    def _hold_up(self, now: float) -> None:
        """The hook waits while encoders leave, and hears when they have left."""
        # Before the main loop has heeded the notice it may be about to begin something.
        held = sum(slot.pid is not None for slot in self._board.slots) if self._board.draining else 1
        beat_seconds = None if self._beat_at is None else now - self._beat_at
        step = lifecycle(held=held, beat_seconds=beat_seconds, completed=self._completed or not self._hook)
        if step is Step.NOTHING:
            return
        tell = self._group.wait_for if step is Step.BEAT else self._group.complete
        with self._dependencies.watched(OBSERVER, "autoscaling"):
            tell(self._hook, self._board.instance_id)
        self._beat_at, self._completed = now, step is Step.COMPLETE
        self._log.info("LIFECYCLE_ACTION", told=str(step), hook=self._hook, instance_id=self._board.instance_id)

    def _let_go(self) -> None:
        """A host whose service has ended is not worth protecting; one that is taken away needs no word."""
        if self._board.protected and not self._board.taken_away:
            try:
                self._protect(on=False)
            except Unavailable:
                return  # noted; the next supervisor of this host does it
