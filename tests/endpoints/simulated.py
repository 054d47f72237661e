"""A whole world of an active/standby Service in simulated time: controllers, keepers, clocks, messages on their way.

What decides is the real code: the step, the book of roles, the fences, the keeper's heed. Simulated are the API
(compare and swap), leadership, the kernel's doorway, time, and everything that can happen to them. All clocks run at
rates of their own, no two of which are further apart than `activity.DRIFT`; wall clocks are off by anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hotswitch.backends import ActivityLease, Backend, BackendId, Health, ServiceOptions
from hotswitch.decide.endpoints.active_standby import Election, Situation, step
from hotswitch.decide.endpoints.activity import DRIFT
from hotswitch.endpoints.fences import Confirmed, Gone, RunOut, Suspect, proof
from hotswitch.endpoints.keeper import Keeper, Kept
from hotswitch.endpoints.role_server import text_of
from hotswitch.endpoints.roles import Answer, RoleBook
from tests.endpoints.make import SERVICE, backend, service

TTL_S = 5.0
LEASE_S, SURE_S = 15.0, 12.0  # cluster.lease
OPTIONS = ServiceOptions(lease=ActivityLease(TTL_S, frozenset({"gone", "agent", "lease"})))


class Now:
    """True time, which nobody knows."""

    s = 0.0


@dataclass(slots=True)
class Clock:
    now: Now
    rate: float
    offset_s: float

    def __call__(self) -> float:
        return self.now.s * self.rate + self.offset_s


class Kernel:
    """A doorway that permits as the real one does: until an instant, and for no longer than told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.until_s = float("-inf")
        self.generation = 0

    def permit(self, until_unix_s: float, at_most_s: float, generation: int) -> None:
        self.until_s = min(until_unix_s, self._clock() + at_most_s)
        self.generation = generation

    def shut(self) -> int:
        self.until_s = float("-inf")
        return 0

    @property
    def is_open(self) -> bool:
        return self._clock() < self.until_s


class Pod:
    def __init__(self, name: str, number: int, now: Now, chance: random.Random) -> None:
        self.clock = Clock(now, 1 + chance.uniform(-DRIFT / 2, DRIFT / 2), chance.uniform(0, 1e6))
        self.backend: Backend = backend(name, number)
        self.is_well = True
        self.is_deleted = False  # by force: its object is gone, and it serves on for as long as the kernel lets it
        self.kernel = Kernel(self.clock)
        self.restart_keeper()

    def restart_keeper(self) -> None:
        """What it remembered is gone, what the kernel was told stays."""
        kept = Kept(
            namespace="shop", name=self.backend.pod.name, uid=self.backend.pod.uid, doorway=self.kernel,  # type: ignore[arg-type]
            roles=("http://nobody",), token=str, clock=self.clock,
        )  # fmt: skip
        self.keeper, self.started_s = Keeper(kept), self.clock.now.s
        self.keeper.generation = self.kernel.generation

    @property
    def id(self) -> BackendId:
        return self.backend.id


@dataclass(slots=True)
class Store:
    """The API: the election's Lease, and the controllers'."""

    election: Election = field(default_factory=Election)
    version: int = 0
    term: int = 0  # of who wrote the election last
    holder: str = ""
    lease_version: int = 0
    lease_term: int = 0


class Unseen:
    """Nobody sees pods go."""

    def was_forced(self, backend: BackendId) -> bool:
        return False

    def was_seen(self, backend: BackendId) -> bool:
        return False


class Controller:
    def __init__(self, name: str, world: World) -> None:
        self.name, self._world = name, world
        self.clock = Clock(world.now, 1 + world.chance.uniform(-DRIFT / 2, DRIFT / 2), world.chance.uniform(0, 1e6))
        self.reborn()

    def reborn(self) -> None:
        self._sure_until_s = float("-inf")
        self._seen = (-1, 0.0)
        self._term = -1
        self._follow()

    def _follow(self) -> None:
        self._record: tuple[Election, int] | None = None
        self.roles = RoleBook(lambda: self.leads, self.clock)
        self.fences = (Gone(lambda cluster: True, Unseen()), Confirmed(self.roles), RunOut(self.roles, self.clock))

    @property
    def leads(self) -> bool:
        return self.clock() < self._sure_until_s

    def renew(self, delay_s: float) -> None:
        """One turn of the elector, whose answer comes after `delay_s`."""
        store, began_s = self._world.store, self.clock()
        if self._seen[0] != store.lease_version:
            self._seen = (store.lease_version, began_s)
        is_ours = store.holder == self.name and self.leads
        if not is_ours and (store.holder and began_s - self._seen[1] <= LEASE_S):
            return
        if not is_ours:
            store.lease_term += 1
        store.holder, store.lease_version = self.name, store.lease_version + 1
        self._seen = (store.lease_version, began_s)
        term = store.lease_term

        def answered() -> None:
            if store.lease_version != self._seen[0]:
                return
            if term != self._term:
                self._term = term
                self._follow()
                self.roles.open(SERVICE)
                self._since_s = self.clock()
            self._sure_until_s = began_s + SURE_S

        self._world.later(delay_s, answered, self)

    def work(self, delay_s: float, *, loses_answer: bool = False) -> None:
        """One step of the worker: look, decide, write. The write arrives after `delay_s`, if nobody was faster."""
        if not self.leads:
            return
        store = self._world.store
        if self._record is None:
            if store.term > self._term:
                return
            self._record = (store.election, store.version)
            self._since_s = self.clock()
        election, version = self._record
        verdict = step(self._situation(election))
        members = frozenset(each.id for each in self._world.pods)
        if verdict.election == election:
            self.roles.appoint(SERVICE, election.active, election.generation, election.ttl_s, members)
            return
        self.roles.silence(SERVICE)
        self._record = None

        def arrive() -> None:
            if store.version != version or store.term > self._term:
                return
            store.election, store.version, store.term = verdict.election, version + 1, self._term
            self._world.elected(verdict.election)
            if not loses_answer:
                self._record, self._since_s = (verdict.election, store.version), self.clock()

        self._world.later(delay_s, arrive, None if loses_answer else self)

    def _situation(self, election: Election) -> Situation:
        backends = tuple(
            replace(each.backend, health=Health.AVAILABLE, kubelet_ready=each.is_well) for each in self._world.pods
        )
        now = Situation(
            service=service(options=OPTIONS), backends=backends, election=election,
            since_s=self.clock() - self._since_s,
        )  # fmt: skip
        if election.ttl_s is not None:
            now = replace(now, silent=self.roles.quiet(SERVICE, election.ttl_s))
        if election.fencing is None:
            return now
        suspect = Suspect(
            service=now.service, id=election.fencing, backend=now.find(election.fencing),
            generation=election.generation, ttl_s=election.ttl_s,
        )  # fmt: skip
        return replace(now, fenced=proof(self.fences, suspect))


class World:
    """`breach`: the first thing that must not be; "": nothing so far."""

    def __init__(self, seed: int, pods: int = 3, controllers: int = 2) -> None:
        self.chance, self.now, self.store = random.Random(seed), Now(), Store()
        self.pods = [Pod(f"db-{number}", number, self.now, self.chance) for number in range(pods)]
        self.ghosts: list[Pod] = []  # deleted by force
        self.controllers = [Controller(f"controller-{number}", self) for number in range(controllers)]
        self._queue: list[tuple[float, int, Callable[[], None], object]] = []
        self._numbers = 0
        self._newest = 0
        self._pods_of: dict[int, str] = {}
        self.breach = ""
        self.generations: list[int] = []
        self.served_s = 0.0

    def later(self, delay_s: float, work: Callable[[], None], of: object) -> None:
        """`of`: whose death means that it never happens."""
        self._numbers += 1
        self._queue.append((self.now.s + delay_s, self._numbers, work, of))

    def forget(self, of: object) -> None:
        self._queue = [each for each in self._queue if each[3] is not of]

    def pass_time(self, seconds: float) -> None:
        end_s = self.now.s + seconds
        while due := sorted(each for each in self._queue if each[0] <= end_s):
            entry = min(due, key=lambda each: each[:2])
            self._queue.remove(entry)
            self._go_to(max(self.now.s, entry[0]))
            entry[2]()
            self._look()
        self._go_to(end_s)

    def _go_to(self, to_s: float) -> None:
        if self.serving:
            self.served_s += to_s - self.now.s
        self.now.s = to_s
        self._look()

    # ---- what is watched ----

    @property
    def serving(self) -> list[Pod]:
        """Those that the kernel lets serve, dead or alive: what is stopped may go on."""
        return [each for each in (*self.pods, *self.ghosts) if each.kernel.is_open]

    def _look(self) -> None:
        found = self.serving
        if len(found) > 1:
            self._break(f"{[each.backend.pod.name for each in found]} serve at once")
        for each in found:
            generation = each.kernel.generation
            if generation < self._newest:
                self._break(f"{each.backend.pod.name} serves {generation} after {self._newest}")
            self._newest = max(self._newest, generation)
            name = self._pods_of.setdefault(generation, each.backend.pod.name)
            if name != each.backend.pod.name:
                self._break(f"generation {generation} is served by {name} and {each.backend.pod.name}")

    def elected(self, election: Election) -> None:
        if self.generations and election.generation < self.generations[-1]:
            self._break(f"generation {election.generation} was written after {self.generations[-1]}")
        self.generations.append(election.generation)

    def _break(self, what: str) -> None:
        self.breach = self.breach or f"at {self.now.s:.3f} s: {what}"

    # ---- what pods do ----

    def ask(self, pod: Pod, controller: Controller, there_s: float, back_s: float, stands_s: float = 0.0) -> None:
        """A question on its way to a controller, where it stands for a while, and its answer on its way back."""
        asked_s, keeper = pod.clock(), pod.keeper

        def arrive() -> None:
            came_s, roles = controller.clock(), controller.roles
            if stands_s:
                self._answer_of(pod, controller, came_s)
                self.later(stands_s, lambda: roles is controller.roles and answered(came_s), controller)  # type: ignore[func-returns-value]
            else:
                answered(came_s)

        def answered(came_s: float) -> None:
            answer = self._answer_of(pod, controller, came_s)
            if answer is None:
                return
            said: dict[str, Any] = text_of(answer)

            def heed() -> None:
                if pod.keeper is keeper:
                    keeper.heed(said, asked_s, asked_s)
                    if said["role"] != "active":
                        self.later(there_s, lambda: self._confirm(pod, controller, int(said["withdrawn"])), keeper)

            self.later(back_s, heed, keeper)

        self.later(there_s, arrive, controller)

    def _answer_of(self, pod: Pod, controller: Controller, came_s: float) -> Answer | None:
        if not controller.leads or pod.is_deleted:
            return None
        return controller.roles.ask(pod.id, came_s, by_keeper=True)

    def _confirm(self, pod: Pod, controller: Controller, generation: int) -> None:
        if controller.leads:
            controller.roles.confirm(pod.id, generation)  # type: ignore[arg-type]

    def delete_by_force(self, pod: Pod) -> None:
        """And another one comes in its place."""
        number = len(self.pods) + len(self.ghosts)
        pod.is_deleted = True
        self.ghosts.append(pod)
        self.pods[self.pods.index(pod)] = Pod(f"db-{number}", number, self.now, self.chance)

    def restart_keeper(self, pod: Pod) -> None:
        self.forget(pod.keeper)
        pod.restart_keeper()

    def kill(self, controller: Controller) -> None:
        self.forget(controller)
        controller.reborn()
