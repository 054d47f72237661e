"""The controller's side of all places: what was given counts as spent until it has provably run out (I1, I3). Pure.

An agent acts on the newest allotment that has reached it, and the controller cannot know which that is until it is
told; so of each process of each agent the most counts of all allotments that are alive and not replaced by one that it
says it has. Alive: by the controller's clock, `skew_s` beyond the life, which began before (grants.lease). Of one agent
two processes count both: nobody proves that the first is dead.

A leader begins without memory. What the last one gave is over after one life; until then each agent keeps what it says
it has, and nothing else is given: together that is no more than the budget was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hotswitch.decide.grants.lease import Allotment
from hotswitch.decide.grants.scopes import Scope


class Holder(NamedTuple):
    """A process of an agent: `agent` names the node (or the pod), `instance` the process and those that go on with
    what it remembered."""

    agent: str
    instance: str


@dataclass(frozen=True, slots=True)
class _Given:
    order: tuple[int, int]
    places: Mapping[Scope, int]
    over_s: float  # the controller's clock: surely run out


@dataclass(slots=True)
class _Account:
    given: list[_Given] = field(default_factory=list)
    beat: int = 0
    serial: int = 0
    used: Mapping[Scope, int] = field(default_factory=dict)
    holds: Counter[Scope] = field(default_factory=Counter)
    present: bool = False


class Ledger:
    """`cautious_until_s`: until when allotments of an earlier leader may be alive. -inf: there was none."""

    def __init__(self, term: int, *, life_s: float, skew_s: float, cautious_until_s: float = -math.inf) -> None:
        self.term, self.life_s, self._skew_s = term, life_s, skew_s
        self._cautious_until_s = cautious_until_s
        self._accounts: dict[Holder, _Account] = {}
        self._of_agent: dict[str, set[Holder]] = {}
        self._total: Counter[Scope] = Counter()
        self._next_over_s = math.inf

    def be_sure(self) -> None:
        """There was no earlier leader."""
        self._cautious_until_s = -math.inf

    # ---- what agents say ----

    def hello(
        self,
        holder: Holder,
        *,
        held: Mapping[Scope, int],
        order: tuple[int, int],
        cap: int,
        now_s: float,
    ) -> None:
        """`held`: the places that it says it has, by the allotment `order`; more than `cap` nobody ever had."""
        account = self._account(holder)
        account.present = True
        account.serial = max(account.serial, order[1] if order[0] == self.term else 0)
        known = any(each.order == order for each in account.given)
        if held and not known and self.is_cautious(now_s) and order[0] < self.term:
            places = {scope: min(count, cap) for scope, count in held.items()}
            self._give(account, _Given(order, places, now_s + self.life_s + self._skew_s))

    def beat(self, holder: Holder, number: int, *, order: tuple[int, int], used: Mapping[Scope, int]) -> bool:
        """`order`: of the allotment that it acts on. False for one that was heard before, or is late."""
        account = self._account(holder)
        if number <= account.beat:
            return False
        account.beat, account.used, account.present = number, dict(used), True
        acts_on = next((each for each in account.given if each.order == order), None)
        if acts_on is not None and all(count <= acts_on.places.get(scope, 0) for scope, count in used.items()):
            account.given = [each for each in account.given if each.order >= order]
            self._recount(account)
        return True

    def gone(self, holder: Holder) -> None:
        """Its link has ended; what it was given is alive all the same."""
        self._account(holder).present = False
        self._next_over_s = -math.inf

    # ---- what is given ----

    def allot(
        self,
        holder: Holder,
        wanted: Mapping[Scope, int],
        budgets: Mapping[Scope, int],
        *,
        cap: int,
        now_s: float,
        lone: bool = False,
    ) -> Allotment:
        """A new allotment: of what is wanted, all that is surely free. `cap`: of all processes of the agent (I3).
        `lone`: of one pod, to which a place is of no use without one in each of its scopes."""
        self.tidy(now_s)
        account = self._account(holder)
        places = {scope: self._place(holder, scope, count, budgets, cap, now_s) for scope, count in wanted.items()}
        if lone:
            places = dict.fromkeys(places, min(places.values(), default=0))
        account.serial += 1
        order = (self.term, account.serial)
        self._give(account, _Given(order, places, self._over_s(account, now_s)))
        return Allotment(term=self.term, serial=account.serial, beat=account.beat, life_s=self.life_s, places=places)

    def _over_s(self, account: _Account, now_s: float) -> float:
        """Never before an earlier one: what was opened under that may last as long."""
        return max([now_s + self.life_s + self._skew_s, *(each.over_s for each in account.given)])

    def _place(
        self, holder: Holder, scope: Scope, wanted: int, budgets: Mapping[Scope, int], cap: int, now_s: float
    ) -> int:
        own = self._accounts[holder].holds[scope]
        others_of_agent = sum(
            self._accounts[each].holds[scope] for each in self._of_agent[holder.agent] if each != holder
        )
        free = budgets.get(scope, 0) - (self._total[scope] - own)
        if self.is_cautious(now_s):
            free = own
        return max(0, min(wanted, free, cap - others_of_agent))

    def is_cautious(self, now_s: float) -> bool:
        return now_s < self._cautious_until_s

    # ---- what is spent ----

    def held(self, scope: Scope, now_s: float, *, budget: int | None = None) -> int:
        """By agents, at most. `budget`: all of it as long as an earlier leader may have given it away."""
        self.tidy(now_s)
        known = self._total[scope]
        return max(known, budget) if budget is not None and self.is_cautious(now_s) else known

    def used(self, holder: Holder) -> Mapping[Scope, int]:
        return self._account(holder).used

    def holds(self, holder: Holder) -> Mapping[Scope, int]:
        return self._account(holder).holds

    def held_by(self, holders: Iterable[Holder], scope: Scope) -> int:
        """By these together; whoever is not known holds nothing."""
        return sum(self._accounts[each].holds[scope] for each in holders if each in self._accounts)

    def agent_holds(self, agent: str) -> Counter[Scope]:
        """All processes of it together."""
        return sum((self._accounts[each].holds for each in self._of_agent.get(agent, ())), Counter[Scope]())

    @property
    def holders(self) -> tuple[Holder, ...]:
        return tuple(self._accounts)

    def tidy(self, now_s: float) -> None:
        """Forget what has run out."""
        if now_s < self._next_over_s:
            return
        for holder, account in list(self._accounts.items()):
            alive = [each for each in account.given if each.over_s > now_s]
            if len(alive) != len(account.given):
                account.given = alive
                self._recount(account)
            if not alive and not account.present:
                self._forget(holder)
        self._next_over_s = min(self._ends(), default=math.inf)

    def _ends(self) -> Iterable[float]:
        return (each.over_s for account in self._accounts.values() for each in account.given)

    def _forget(self, holder: Holder) -> None:
        del self._accounts[holder]
        self._of_agent[holder.agent].discard(holder)
        if not self._of_agent[holder.agent]:
            del self._of_agent[holder.agent]

    def _account(self, holder: Holder) -> _Account:
        if holder not in self._accounts:
            self._accounts[holder] = _Account()
            self._of_agent.setdefault(holder.agent, set()).add(holder)
        return self._accounts[holder]

    def _give(self, account: _Account, given: _Given) -> None:
        account.given.append(given)
        self._next_over_s = min(self._next_over_s, given.over_s)
        self._recount(account)

    def _recount(self, account: _Account) -> None:
        self._total.subtract(account.holds)
        most: Counter[Scope] = Counter()
        for given in account.given:
            for scope, count in given.places.items():
                most[scope] = max(most[scope], count)
        for scope in [scope for scope in account.holds if not self._total[scope]]:
            del self._total[scope]
        account.holds = most
        self._total.update(most)
