"""One ordinary Service in the hands of the leader: look, decide one step, write it down, do it (S0.2, S4.4, I6).

Invariant: nothing is taken away before what comes in its place was seen in the API; and whoever is killed between any
two lines here leaves a record and a Service from which the next one goes on. While nothing is wrong nothing is asked of
the API server: the watch of its pods tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hotswitch.api.adopt import ADOPTED, Wish, wish
from hotswitch.backends import Published, ServiceId, ServiceRecord
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.failure import ApiFailure
from hotswitch.decide.endpoints.adopt import PUBLISHING, Do, Phase, Situation, Verdict, Word, step
from hotswitch.decide.endpoints.shortage import Count, count
from hotswitch.endpoints import mark
from hotswitch.endpoints.adopt_means import Means
from hotswitch.endpoints.adopt_picture import (
    Picture,
    is_as_written,
    of_this,
    selector_of,
    to_publish,
    to_remember,
)
from hotswitch.endpoints.adoption_ledger import Entry
from hotswitch.endpoints.hands import Seen, Slices
from hotswitch.endpoints.ledger import Stale
from hotswitch.endpoints.memory import MemoryUnreadable

log = logging.getLogger("hotswitch.endpoints.adopt")
SOON_S, LOOK_S, SELDOM_S = 0.1, 5.0, 60.0
STEPS = 12  # in one turn; more would be a circle
_WAITING = frozenset({Phase.TAKING, Phase.RETURNING})
_LASTS = frozenset({Word.REFUSED, Word.FORGED, Word.OTHERS})  # told when they begin, though nothing is done


class AdoptWorker:
    def __init__(self, service: ServiceId, means: Means) -> None:
        self._id, self._means = service, means
        self._wake = asyncio.Event()
        self._backoff = Backoff(first_s=0.05, longest_s=LOOK_S)
        self._soon = Backoff(first_s=SOON_S, longest_s=LOOK_S)  # while it waits for the same
        self._failed = False  # the last turn
        self._entry: Entry | None = None
        self._last = Phase.IDLE
        self._settled = False  # nothing of an earlier takeover is left
        self._enough_since_s: float | None = None
        self._hold_s = Wish().hold_s
        self._refused_version = ""  # of a Service that we were not let take the selector from: it was surely not done
        self._published = False
        self._verdict: Verdict | None = None

    @property
    def phase(self) -> Phase:
        """As it was read last; a turn that failed does not change it."""
        return self._entry.adoption.phase if self._entry is not None else self._last

    def wake(self) -> None:
        self._wake.set()

    def found(self) -> None:
        """Slices of ours stand; where there should be none, it is looked at anew."""
        if self.phase not in PUBLISHING:
            self._settled = False
            self.wake()

    async def run(self) -> None:
        """Until cancelled, or there is nothing left to look after."""
        while True:
            self._wake.clear()
            if await self._attempt():
                return
            await self._rest()

    async def _rest(self) -> None:
        """News end it; what failed is not tried again sooner for them."""
        if self._failed:
            await asyncio.sleep(self._backoff.next_s())
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s()):
                await self._wake.wait()

    def _pause_s(self) -> float:
        waits = self._verdict is not None and self._verdict.word is Word.WAITS
        if self._entry is None or waits or self.phase in _WAITING:
            return self._soon.next_s()
        if self.phase is Phase.IDLE:
            return SELDOM_S if self._settled else self._soon.next_s()
        if self.phase is Phase.YIELDED:
            return self._soon.next_s() if self._published else SELDOM_S
        if self._enough_since_s is None:
            return LOOK_S
        return min(LOOK_S, max(0.001, self._enough_since_s + self._hold_s - self._means.clock()))

    async def _attempt(self) -> bool:
        """One turn. Whether all is over. Not all first looks are at once: who fences shares the loop with them."""
        async with self._means.looks if self._entry is None else contextlib.nullcontext():
            return await self._tried()

    async def _tried(self) -> bool:
        """What fails is looked at anew, a little later."""
        self._failed = False
        try:
            over = await self._turn()
            self._backoff.reset()
            return over
        except Stale as stale:  # a later leader may keep the slices: two would write over each other for ever
            log.warning("taking over of %s: %s", self._id, stale)
            self._published = False
            self._means.slices.leave(self._id)
            self._fails(str(stale))
        except (ApiFailure, MemoryUnreadable) as failure:
            log.warning("taking over of %s: %s", self._id, failure)
            self._fails(str(failure))
        except Exception as unforeseen:  # what has ended would only seem to be looked after
            log.exception("taking over of %s", self._id)
            self._fails(f"{type(unforeseen).__name__}: {unforeseen}")
        self._last, self._entry, self._settled, self._failed = self.phase, None, False, True
        return False

    async def _turn(self) -> bool:
        for _ in range(STEPS):
            record = self._means.registry.service(self._id)
            if not self._means.leads() or (record is not None and not self._means.knows(self._id)):
                self._soon.reset()  # nothing was asked
                return False
            asked, counted = self._counted(record)
            entry = self._entry = self._entry or await self._means.ledger.read(self._id)
            if record is not None and self._rests(record) and not counted.too_few:
                self._stands(record.uid, step(Situation(wish=asked, count=counted, phase=Phase.IDLE)))
                return False
            picture = await self._look()
            if picture is None:
                await self._gone()
                return record is None  # else the watch will tell
            if record is not None and record.uid != picture.seen.uid:
                self._entry = None  # another one of its name, of which the watch will tell
                return False
            entry = self._entry = of_this(entry, picture.seen)
            if self._means.recall(self._id, picture.seen.uid, entry.adoption.selector):
                return False  # the watch of its pods will tell
            backends = self._means.registry.backends(self._id)
            published = to_publish(self._means.term, record, backends, entry, picture.seen)
            verdict = step(await self._situation(asked, counted, entry, picture, published))
            if verdict.publish and published is not None:
                self._publish(published)
            if verdict.do is Do.NOTHING:
                self._settled = verdict.phase is Phase.IDLE and not picture.slices.ours
                self._stands(picture.seen.uid, verdict)
                return record is None and self._settled
            await self._carry_out(verdict, entry, asked, picture)
        log.error("taking over of %s: no end after %d steps", self._id, STEPS)
        return False

    # ---- looking ----

    def _rests(self, record: ServiceRecord) -> bool:
        """Nothing was taken, and nothing is left. A mark is looked into, whoever wrote it."""
        return self._settled and self.phase is Phase.IDLE and ADOPTED not in record.annotations

    def _counted(self, record: ServiceRecord | None) -> tuple[Wish, Count]:
        asked = wish(record.annotations) if record is not None else Wish()
        found = count(asked, self._means.registry.backends(self._id))
        self._hold_s = asked.hold_s
        if found.too_few:
            self._enough_since_s = None
        elif self._enough_since_s is None:
            self._enough_since_s = self._means.clock()
        return asked, found

    async def _look(self) -> Picture | None:
        """None: there is no such Service. It is read last: what was there while it still had its selector is old when
        it is seen without, and nothing newer is removed."""
        hands = self._means.hands
        slices = await hands.slices(self._id)
        leftover = await hands.leftover(self._id) if self.phase in (Phase.TAKING, Phase.HELD) else None
        seen = await hands.service(self._id)
        return None if seen is None else Picture(seen, slices, leftover)

    async def _situation(
        self, asked: Wish, counted: Count, entry: Entry, picture: Picture, published: Published | None
    ) -> Situation:
        seen, slices, adoption = picture.seen, picture.slices, entry.adoption
        since_s = self._enough_since_s
        is_marked = mark.is_ours(seen.kept, adoption, seen.uid, slices.ours)
        was_refused = adoption.version == self._refused_version and not is_marked
        return Situation(
            wish=asked,
            count=counted,
            phase=adoption.phase,
            refusal=self._means.refusal(self._id.namespace),
            has_selector=bool(seen.selector),
            is_marked=is_marked,
            is_forged=seen.kept is not None and not is_marked,
            as_written=bool(adoption.version) and (adoption.version == seen.version or was_refused),
            ours_stand=published is not None and slices.hold(published),
            ours_left=bool(slices.ours),
            others=bool(slices.theirs) or picture.removable(adoption.writers) is not None,
            stay=picture.stay(adoption.writers),
            owns=bool(seen.selector and seen.owners),
            covered=await self._covered(adoption.phase, seen, slices),
            enough_s=0.0 if since_s is None else self._means.clock() - since_s,
            again=adoption.again,
        )

    async def _covered(self, phase: Phase, seen: Seen, slices: Slices) -> bool:
        """Asked only where it is of use, for it lists pods."""
        if not seen.selector or not slices.ours or phase in (Phase.TAKING, Phase.HELD):
            return bool(seen.selector)
        return slices.covers(await self._means.hands.ready_pods(seen))

    # ---- doing ----

    async def _carry_out(self, verdict: Verdict, entry: Entry, asked: Wish, picture: Picture) -> None:
        if not self._means.leads():
            raise Stale(f"{self._id}: this controller leads no more")
        if verdict.do is Do.WRITE or not is_as_written(verdict, entry, picture.seen):
            await self._write(verdict, entry, asked, picture)
        elif verdict.do is Do.REMOVE:
            await self._remove(entry, picture.seen)
        elif verdict.do is Do.FENCE:
            await self._means.hands.fence(picture.seen)
        elif verdict.do is Do.RESTORE:
            await self._restore(entry, picture.seen)
        elif verdict.do is Do.CLEAR:
            leftover = picture.removable(entry.adoption.writers)
            await self._means.hands.clear(picture.seen, picture.slices, leftover)
        elif verdict.do is Do.RELEASE:
            await self._means.hands.release(picture.seen)
        elif verdict.do is Do.RETIRE:
            await self._retire(picture.slices)
        self._stands(picture.seen.uid, verdict, is_new=True)

    async def _write(self, verdict: Verdict, entry: Entry, asked: Wish, picture: Picture) -> None:
        wanted = to_remember(verdict, entry, asked.again, picture)
        # whether it was done is not known until it has returned
        self._last, self._entry, self._refused_version = self.phase, None, ""
        self._entry = await self._means.ledger.write(self._id, entry, wanted, str(verdict.word), verdict.sentence)

    async def _remove(self, entry: Entry, seen: Seen) -> None:
        try:
            await self._means.hands.remove_selector(seen)
        except ApiFailure as failure:
            if failure.is_conflict:  # it was surely not done: somebody changed something else of the Service
                self._refused_version = entry.adoption.version
            raise

    async def _restore(self, entry: Entry, seen: Seen) -> None:
        selector = selector_of(entry, seen)
        if seen.kept != selector and not seen.selector:
            await self._means.hands.mark(seen, selector)
        else:
            await self._means.hands.restore_selector(seen, selector)

    async def _retire(self, slices: Slices) -> None:
        """The publisher first, or it would make them again."""
        if self._published:
            self._published = False
            self._means.slices.withdraw(self._id)
        await self._means.hands.retire(self._id, slices)

    def _publish(self, published: Published) -> None:
        self._published = True
        self._means.slices.publish(published)

    async def _gone(self) -> None:
        """With its Service; another one of its name begins anew."""
        if self._published:
            self._published = False
            self._means.slices.withdraw(self._id)
        self._stands("", Verdict(do=Do.NOTHING, phase=Phase.IDLE, word=Word.ENOUGH, sentence="it is gone"))
        await self._means.ledger.forget(self._id)
        self._last, self._entry = Phase.IDLE, None

    # ---- saying ----

    def _fails(self, why: str) -> None:
        """What lasts is an alarm, whatever it is."""
        record = self._means.registry.service(self._id)
        verdict = Verdict(do=Do.NOTHING, phase=self.phase, word=Word.WAITS, sentence=why, alarm=True)
        self._means.tell(self._id, record.uid if record is not None else "", verdict, is_new=False)

    def _stands(self, uid: str, verdict: Verdict, *, is_new: bool = False) -> None:
        before, self._verdict = self._verdict, verdict
        if before is None or (before.phase, before.word) != (verdict.phase, verdict.word):
            self._soon.reset()
        begins = verdict.word in _LASTS and (before is None or before.word is not verdict.word)
        self._means.tell(self._id, uid, verdict, is_new=is_new or begins)
