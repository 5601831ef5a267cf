"""The statements as functions of the world: each is atomic, as one autocommit statement is.

A function returns the world after it and whether it changed a row. `has` asks for a guard by the name that
tests/adapters/postgres/terms.py gives it; a guard that was taken away holds always. The conformance test holds these
functions against the real statements.
"""

from __future__ import annotations

from tests.model.state import (
    DONE,
    EXPIRED,
    FAILED,
    FRESH,
    NO_LEASE,
    PROCESSING,
    READY,
    RUNNING,
    SILENT,
    TODO,
    UPLOADED,
    Chunk,
    Video,
    World,
)

MAX_LOSSES = 2
MAX_DEATHS = 1
MAX_ATTEMPTS = 2

Result = tuple[World, bool]

STATUS = "status = 'PROCESSING'"
TOKEN = "lease_token = %(token)s"
OWNER_TOKEN = "lease_token = %(owner_token)s"
CANCEL = "cancel_requested_at IS NOT NULL"
DUE = "coalesce(run_after, '-infinity') <= now()"
LOSSES = "loss_count + 1 >= %(max_losses)s"
FREE_OWN = (
    "(c.state = 'TODO' OR c.assisted AND c.leased_until < now() OR c.state = 'RUNNING' AND NOT c.assisted AND c.epoch <"
    " v.lease_epoch OR c.state = 'RUNNING' AND c.token = %(token)s)"
)
FREE_ASSIST = "(c.state = 'TODO' OR c.assisted AND c.leased_until < now())"
FEW_DEATHS = "c.assistant_losses + c.assisted::integer < %(max_assistants)s"


class Guards:
    """All of them, or all but one. `asked` collects the names, `mattered` those that decided, until it is cleared."""

    def __init__(self, without: str = "") -> None:
        self.without = without
        self.asked: set[str] = set()
        self.mattered: set[str] = set()

    def __call__(self, statement: str, term: str, truth: bool) -> bool:
        name = f"{statement}: {term}"
        self.asked.add(name)
        if not truth:
            self.mattered.add(name)
        return truth or name == self.without

    def either(self, statement: str, term: str, truth: bool) -> bool:
        """One side of an OR, or the condition of a WHEN: taken away, it never holds."""
        name = f"{statement}: {term}"
        self.asked.add(name)
        if truth:
            self.mattered.add(name)
        return truth and name != self.without


def claim(world: World, has: Guards, name: str = "claim") -> Result:
    video = world.video
    if not has(name, "status = 'UPLOADED'", video.status == UPLOADED) or not has(name, DUE, video.due):
        return world, False
    epoch = video.epoch + 1
    superseded = tuple(
        "superseded" if has(name, "a.ended_at IS NULL", not outcome) else outcome for outcome in world.attempts
    )
    taken = video._replace(status=PROCESSING, token=epoch, epoch=epoch, age=FRESH, cancel=False)
    return world._replace(video=taken, attempts=(*superseded, "")), True


def mine(world: World, has: Guards, token: int) -> bool:
    """What `look` says to a claim that took no row."""
    status = has("look", "v.status = 'PROCESSING'", world.video.status == PROCESSING)
    return has("look", "v.lease_token IS NOT DISTINCT FROM %(token)s::uuid", world.video.token == token) and status


def holds(world: World, has: Guards, name: str, token: int, term: str = TOKEN, prefix: str = "") -> bool:
    status = has(name, prefix + STATUS, world.video.status == PROCESSING)
    return has(name, prefix + term, world.video.token == token) and status


def renew(world: World, has: Guards, token: int) -> Result:
    if not holds(world, has, "renew", token):
        return world, False
    return world._replace(video=world.video._replace(age=FRESH)), True


def adopt(world: World, has: Guards, token: int, plan: int) -> Result:
    if not holds(world, has, "adopt", token):
        return world, False
    return world._replace(video=world.video._replace(plan=plan)), True


def complete(world: World, has: Guards, token: int) -> Result:
    if not holds(world, has, "complete", token):
        return world, False
    over = Video(status=READY, epoch=world.video.epoch, plan=world.video.plan)
    attempts = _closed(world, token, "ready")
    return world._replace(video=over, attempts=attempts, published=world.published + 1), True


def fail(world: World, has: Guards, token: int, *, final: bool, cancelled: bool = False) -> Result:
    if not holds(world, has, "fail", token):
        return world, False
    marked = has.either("fail", CANCEL, world.video.cancel)
    outcome = "cancelled" if world.video.cancel or cancelled else "failed" if final else "retried"
    failures = world.video.failures + 1
    return _ended(world, token, outcome, final=final or marked, failures=failures, due=False), True


def release(world: World, has: Guards, token: int) -> Result:
    if not holds(world, has, "release", token):
        return world, False
    final = has.either("release", CANCEL, world.video.cancel)
    return _ended(world, token, "cancelled" if world.video.cancel else "released", final=final), True


def abandon(world: World, has: Guards, token: int) -> Result:
    if not holds(world, has, "abandon", token, prefix="v."):
        return world, False
    return _lost(world, has, "abandon", "abandoned"), True


def reclaim_expired(world: World, has: Guards) -> Result:
    expired = has("reclaim_expired", "(v.leased_until IS NULL OR v.leased_until < now())", world.video.age == EXPIRED)
    if not has("reclaim_expired", "v.status = 'PROCESSING'", world.video.status == PROCESSING) or not expired:
        return world, False
    return _lost(world, has, "reclaim_expired", "reclaimed"), True


def reclaim_silent(world: World, has: Guards, judged: int) -> Result:
    video, name = world.video, "reclaim_silent"
    witness = (
        "(v.renewed_at IS NULL OR %(witness_seconds)s::float8 IS NULL OR v.renewed_at < now() -"
        " make_interval(secs => %(witness_seconds)s))"
    )
    status = has(name, "v.status = 'PROCESSING'", video.status == PROCESSING)
    same = has(name, "v.lease_token IS NOT DISTINCT FROM judged.token", video.token == judged)
    if not status or not same or not has(name, witness, video.age >= SILENT):
        return world, False
    return _lost(world, has, name, "reclaimed"), True


def cancel(world: World, has: Guards) -> Result:
    video = world.video
    if has("cancel", "asked.status = 'UPLOADED'", video.status == UPLOADED):
        gone = video._replace(status=FAILED, failures=0, losses=0, cancel=False, due=True, ring=True)
        return world._replace(video=gone), True
    if has("cancel", "asked.status = 'PROCESSING'", video.status == PROCESSING):
        return world._replace(video=video._replace(cancel=True)), True
    return world, False


def resubmit(world: World, has: Guards) -> Result:
    if not has("resubmit", "status IN ('FAILED', 'READY')", world.video.status in {FAILED, READY}):
        return world, False
    again = world.video._replace(status=UPLOADED, failures=0, losses=0, cancel=False, due=True, ring=True)
    return world._replace(video=again, published=0), True


def due_rings(world: World, has: Guards) -> Result:
    video = world.video
    status = has("due_rings", "status = 'UPLOADED'", video.status == UPLOADED)
    due = has("due_rings", DUE, video.due)
    if not status or not due or not has("due_rings", "coalesce(next_ring_at, '-infinity') <= now()", video.ring):
        return world, False
    return world._replace(video=video._replace(ring=False)), True


# ---- chunks


def claim_chunk(world: World, has: Guards, owner: int, token: int) -> tuple[World, int, int]:
    """The world after, and plan and number of what was taken; 0, -1 for none."""
    name = "claim_chunk"
    if not holds(world, has, name, owner, OWNER_TOKEN, "v."):
        return world, 0, -1
    order = _order(world, has, name)
    order.sort(key=lambda pair: world.chunks[pair[0] - 1][pair[1]].token != token)
    for plan, number in order:
        chunk = world.chunks[plan - 1][number]
        former = has(name, "NOT c.assisted", not chunk.assisted) and chunk.epoch < world.video.epoch
        late = chunk.assisted and chunk.late == 1
        free = chunk.state == TODO or late or (chunk.state == RUNNING and (former or chunk.token == token))
        if has(name, FREE_OWN, free):
            return _taken(world, plan, number, token, assisted=False), plan, number
    return world, 0, -1


def claim_assist(world: World, has: Guards, token: int) -> tuple[World, int, int]:
    name, video = "claim_assist", world.video
    helped = has(name, "v.status = 'PROCESSING'", video.status == PROCESSING)
    if not helped or not has(name, "v.cancel_requested_at IS NULL", not video.cancel):
        return world, 0, -1
    for plan, number in _order(world, has, name):
        chunk = world.chunks[plan - 1][number]
        late = has(name, "c.assisted", chunk.assisted) and chunk.late == 1
        free = has(name, FREE_ASSIST, chunk.state == TODO or late)
        if free and has(name, FEW_DEATHS, chunk.deaths + chunk.assisted < MAX_DEATHS):
            return _taken(world, plan, number, token, assisted=True), plan, number
    return world, 0, -1


def renew_chunk(world: World, has: Guards, plan: int, number: int, token: int) -> Result:
    if not _own(world, has, "renew_chunk", plan, number, token):
        return world, False
    return put(world, plan, number, world.chunks[plan - 1][number]._replace(late=0)), True


def done(world: World, has: Guards, plan: int, number: int, token: int) -> Result:
    if not _own(world, has, "done", plan, number, token):
        return world, False
    finished = world.chunks[plan - 1][number]._replace(state=DONE, late=NO_LEASE)
    return put(world._replace(video=world.video._replace(losses=0)), plan, number, finished), True


def release_chunk(world: World, has: Guards, plan: int, number: int, token: int) -> Result:
    chunk = world.chunks[plan - 1][number]
    running = has("release_chunk", "state = 'RUNNING'", chunk.state == RUNNING)
    if not has("release_chunk", "token = %(token)s", chunk.token == token) or not running:
        return world, False
    return put(world, plan, number, Chunk(epoch=chunk.epoch, deaths=chunk.deaths)), True


def abandon_chunk(world: World, has: Guards, token: int) -> Result:
    after = world
    for plan, chunks in enumerate(world.chunks, 1):
        for number, chunk in enumerate(chunks):
            running = has("abandon_chunk", "state = 'RUNNING'", chunk.state == RUNNING)
            if has("abandon_chunk", "token = %(token)s", chunk.token == token) and running:
                after = put(after, plan, number, Chunk(epoch=chunk.epoch, deaths=chunk.deaths + chunk.assisted))
    return after, after != world


def redo(world: World, has: Guards, owner: int, number: int) -> Result:
    if not holds(world, has, "redo", owner, OWNER_TOKEN):
        return world, False
    chunk = world.chunks[world.video.plan - 1][number] if world.video.plan else Chunk()
    if not has("redo", "c.state = 'DONE'", chunk.state == DONE) or not world.video.plan:
        return world, True
    return put(world, world.video.plan, number, Chunk(epoch=chunk.epoch, deaths=chunk.deaths)), True


def put(world: World, plan: int, number: int, chunk: Chunk) -> World:
    """The world with this chunk."""
    chunks = world.chunks[plan - 1]
    changed = (*chunks[:number], chunk, *chunks[number + 1 :])
    return world._replace(chunks=(*world.chunks[: plan - 1], changed, *world.chunks[plan:]))


def _order(world: World, has: Guards, name: str) -> list[tuple[int, int]]:
    """Of the current plan, lowest number first; those of another plan come first, lest they hide."""
    pairs = [(plan, number) for plan in range(len(world.chunks), 0, -1) for number in range(len(world.chunks[0]))]
    pairs.sort(key=lambda pair: pair[0] == world.video.plan)
    return [pair for pair in pairs if has(name, "c.plan = v.plan", pair[0] == world.video.plan)]


def _taken(world: World, plan: int, number: int, token: int, *, assisted: bool) -> World:
    before = world.chunks[plan - 1][number]
    chunk = Chunk(RUNNING, token, world.video.epoch, 0, assisted, before.deaths + before.assisted)
    return put(world, plan, number, chunk)


def _own(world: World, has: Guards, name: str, plan: int, number: int, token: int) -> bool:
    chunk, video = world.chunks[plan - 1][number], world.video
    return (
        has(name, "c.state = 'RUNNING'", chunk.state == RUNNING)
        and has(name, "c.token = %(token)s", chunk.token == token)
        and has(name, "v.plan = c.plan", video.plan == plan)
        and has(name, "v.status IN ('UPLOADED', 'PROCESSING')", video.status in {UPLOADED, PROCESSING})
        and has(
            name,
            "(v.cancel_requested_at IS NULL OR NOT c.assisted)",
            not video.cancel or not chunk.assisted,
        )
    )


def _lost(world: World, has: Guards, name: str, outcome: str) -> World:
    losses = world.video.losses + 1
    final = has.either(name, CANCEL, world.video.cancel) or has.either(name, LOSSES, losses >= MAX_LOSSES)
    return _ended(world, world.video.token, outcome, final=final, losses=losses)


def _ended(
    world: World,
    token: int,
    outcome: str,
    *,
    final: bool,
    failures: int | None = None,
    losses: int | None = None,
    due: bool = True,
) -> World:
    video = world.video
    over = Video(
        status=FAILED if final else UPLOADED,
        epoch=video.epoch,
        failures=0 if final else video.failures if failures is None else failures,
        losses=0 if final else video.losses if losses is None else losses,
        due=final or due,
        ring=final or due,
        plan=video.plan,
    )
    return world._replace(video=over, attempts=_closed(world, token, outcome))


def _closed(world: World, token: int, outcome: str) -> tuple[str, ...]:
    return tuple(outcome if epoch == token else before for epoch, before in enumerate(world.attempts, 1))
