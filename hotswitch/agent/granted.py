"""A guard that decides for itself, within what it was granted (S4.2, S4.4, I1, I2, I3).

Without a grant it looks on and leaves everything as it is: what a predecessor left open ends by the kernel's timeout.
With one it is the standalone agent's guard: it needs nobody to act, and nobody to restore.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from msgspec import structs

from hotswitch.agent.authority import Authority, Grant, PodState
from hotswitch.agent.guard import Guard
from hotswitch.agent.means import Means
from hotswitch.agent.second import SecondObserver
from hotswitch.agent.spare import Spare
from hotswitch.api.drills import Drilled, Told
from hotswitch.api.orders import whole_policies
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod
from hotswitch.kernel.cgroup import Container
from hotswitch.model import Act, Decision, Facts, Level, Mode, Override, Policy, View

DIED = "the agent ended before it could tell how the drill ended"


class GrantedGuard(Guard):
    """Raises as Guard. `proxy_user`: Istio's uid for the proxy, as our user namespace counts it. `mapped`: the pod has
    a user namespace of its own, to which the rescue's user is nobody: its calls out cannot be told from the app's."""

    def __init__(
        self,
        settings: Pod,
        spec: CaptureSpec,
        means: Means,
        spare: Spare,
        authority: Authority,
        *,
        container: Container | None = None,
        proxy_user: int | None = None,
        mapped: bool = False,
    ) -> None:
        self._proxy_user = proxy_user
        super().__init__(settings, spec, means, spare, container)
        self._authority, self._mapped = authority, mapped
        self.leaves = False
        self._second = SecondObserver(self.pod.uid, authority)
        self._taken = 0  # version of the grant that is in force
        self._ordered: Override | None = None
        self._told: PodState | None = None
        self._taking: asyncio.Task[None] | None = None
        self._drilling = ""  # the order that was heeded last
        self.drilled: Drilled | None = None

    def _proxy_uid(self) -> int:
        return super()._proxy_uid() if self._proxy_user is None else self._proxy_user

    async def start(self) -> None:
        grant = self._authority.grant(self.pod.uid)
        if grant is not None:
            self.policy = self._allowed(grant.policy)
        await super().start()
        self._authority.attach(self.pod, self._granted)
        self._tell()  # what is open takes its place before anything is renewed
        self._granted()

    def close(self) -> None:
        self._authority.detach(self.pod.uid)
        if self._taking is not None:
            self._taking.cancel()
        super().close()

    # ---- what may be done ----

    def _granted(self) -> None:
        """The grant, or the right, is another one."""
        grant = self._authority.grant(self.pod.uid)
        if grant is not None and grant.version != self._taken:
            self._take(grant)
        self.step()

    def _take(self, grant: Grant) -> None:
        before, self._taken = self.policy.mode, grant.version
        self.policy = self._allowed(grant.policy)
        self._ask_by_policy()
        if grant.override != self._ordered:  # else what a person or a drill orders here stands
            self._ordered = grant.override
            self.standing = replace(self.standing, override=grant.override)
        self.note("grant", evidence={"version": str(grant.version), "mode": str(grant.policy.mode)})
        settings = self._with(grant)
        if settings != self.settings or not self.spare.tried.is_set():
            self.settings = settings
            self._taking = self._loop.create_task(self.spare.begin(settings))
        if grant.drill is not None and grant.drill.id != self._drilling:
            self._heed(grant.drill, was_heard=grant.drill_was_heard)
        if Mode.AUTO in (before, grant.policy.mode) and before is not grant.policy.mode:
            self.look_again()

    def _heed(self, order: Told, *, was_heard: bool) -> None:
        """Once, whatever is told again: a process that died in the midst of a drill left its end to the kernel."""
        self._drilling = order.id
        if was_heard:
            self.drilled = Drilled(id=order.id, result="failed", why=DIED)
        else:
            self._means.drill(self, order, self._drilled, None)

    def _drilled(self, drilled: Drilled) -> None:
        if drilled.id == self._drilling and not self.closed:
            self.drilled = drilled
            self._tell()

    def change_policy(self, settings: Pod) -> None:
        """What is known of the pod has changed; what may be done is the grant's, whatever stands in the settings."""
        self.settings = settings
        self.stand_in.wanted = settings.app.stand_in
        self.step()

    def leave(self) -> None:
        """The rescue ends with its agent: whatever is granted from now on, nothing is led to it any more (I1)."""
        self.leaves = True
        self.policy = self._allowed(self.policy)
        self.step()

    def _allowed(self, policy: Policy) -> Policy:
        if self.leaves:
            policy = replace(policy, inbound=_without_rescue(policy.inbound))
        if self.leaves or self._mapped:
            policy = replace(policy, outbound=_without_rescue(policy.outbound))
        return policy

    def _with(self, grant: Grant) -> Pod:
        wanted = grant.policy
        policy = structs.replace(self.settings.policy, mtls=wanted.mtls, mtls_by_port=dict(wanted.mtls_by_port))
        update: dict[str, Any] = {"policy": policy, "authorization": tuple(whole_policies(grant.authorization))}
        if self.settings.identity is not None:
            told = {"spiffe_id": grant.spiffe_id, "trust_domains": grant.trust_domains}
            kept = {key: each for key, each in told.items() if each}
            update["identity"] = structs.replace(self.settings.identity, **kept)
        return structs.replace(self.settings, **update)

    # ---- the loop ----

    def step(self, *, who: str = "agent") -> tuple[Decision, ...]:
        grant = self._authority.grant(self.pod.uid)
        if self.watch.gone or grant is None:
            return self._step_without()
        decisions = super().step(who=who)
        self._say_alone()
        self._tell()
        return decisions

    def view(self, facts: Facts | None = None) -> View:
        """A hang counts once two observers agree; what is only supposed (`facts`) is taken as it is told."""
        view = super().view(facts)
        return view if facts is not None else self._second.shown(view)

    def _say_alone(self) -> None:
        """Once for each hang; people hear of its end when the proxy is well."""
        alone = self._second.alone
        if alone is None or alone.code in self.standing.said:
            return
        self.standing = replace(self.standing, said=self.standing.said | {alone.code})
        self._means.metrics.alone.labels(alone.why).inc()
        why = f"{self.diagnosis.sentence}: {alone.sentence}"
        self.note(str(Act.HOLD), code=alone.code, why=why, evidence=dict(self.diagnosis.evidence))

    def _step_without(self) -> tuple[Decision, ...]:
        if self.watch.gone:
            self._means.gone(self)
            return ()
        self.look_on()
        self.watch.be_alert(self.standing.is_open or self.sick)
        self._show()
        self._tell()
        return ()

    def _tell(self) -> None:
        view = self.view()
        state = PodState(
            standing=self.standing,
            diagnosis=self.diagnosis,
            capabilities=view.capabilities,
            identity_expires_in_s=view.facts.identity_expires_in_s,
            path_passes=view.facts.path_passes,
            istio_rules=self._rules.scene.digest,
            istio_complete=self._rules.scene.complete,
            stand_in=self.stand_in.state,
            drilled=self.drilled,
        )
        lasting = replace(state, identity_expires_in_s=None)  # which runs down all the time
        if lasting != self._told:
            self._told = lasting
            self._authority.state(self.pod.uid, state)


def _without_rescue(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple(each for each in levels if each is not Level.RESCUE)
