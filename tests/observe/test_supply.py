"""What Envoy's counters mean, look after look (S4.2c)."""

from __future__ import annotations

import pytest

from hotswitch.model import Supply
from hotswitch.observe.supply import SupplyWatch, _identity_ends, parse

pytestmark = pytest.mark.unit


def stats(accepted: int, rejected: int, connected: int = 1, secrets: int = 1) -> dict[str, int]:
    return parse(
        f'control_plane.identifier: ""\ncontrol_plane.connected_state: {connected}\n'
        f"listener_manager.lds.update_success: {accepted}\nlistener_manager.lds.update_rejected: {rejected}\n"
        f"sds.default.update_success: {secrets}\nsds.default.update_rejected: 0\n"
    )


def looks(*seen: dict[str, int]) -> Supply:
    watch = SupplyWatch("/proc/self/ns/net", 60.0, lambda: None)
    for at, each in enumerate(seen):
        watch._supply = watch._judge(each, float(at + 1))
    found = watch.supply(float(len(seen)), 0.0)
    assert found is not None
    return found


def test_a_rejected_update_counts_until_one_is_accepted() -> None:
    assert looks(stats(1, 0), stats(1, 1)).rejected == ("listeners",)
    assert looks(stats(1, 0), stats(1, 1), stats(1, 1)).rejected == ("listeners",)
    assert looks(stats(1, 0), stats(1, 1), stats(2, 1)).rejected == ()


def test_what_was_rejected_before_the_first_look_is_not_known_to_be_the_newest() -> None:
    assert looks(stats(1, 5)).rejected == ()
    assert looks(stats(0, 5)).rejected == ("listeners",)  # nothing was ever accepted


def test_a_proxy_that_has_restarted_begins_anew() -> None:
    assert looks(stats(5, 0), stats(5, 1), stats(1, 0)).rejected == ()


def test_a_lost_control_plane_is_counted_from_when_it_was_first_seen() -> None:
    found = looks(stats(1, 0), stats(1, 0, connected=0), stats(1, 0, connected=0), stats(1, 0, connected=0))
    assert (found.cut_off, found.cut_off_s) == (("the control plane",), 2.0)
    assert looks(stats(1, 0, connected=0), stats(1, 0)).cut_off == ()


def test_a_secret_that_never_came() -> None:
    assert looks(stats(1, 0, secrets=0)).missing == ("default",)


def test_what_is_old_is_not_known() -> None:
    watch = SupplyWatch("/proc/self/ns/net", 60.0, lambda: None)
    watch._supply = watch._judge(stats(1, 1), 0.0)
    assert watch.supply(181.0, 0.0) is None


def test_only_the_workloads_own_certificate_counts() -> None:
    def chain(name: str, ends: str) -> dict[str, object]:
        return {"cert_chain": [{"subject_alt_names": [{"uri": name}], "expiration_time": ends}]}

    found = [chain("spiffe://a/ns/b/sa/c", "2026-11-23T00:00:00Z"), chain("https://x", "2036-11-23T00:00:00Z")]
    assert _identity_ends({"certificates": [*found, {"ca_cert": []}]}) == 1795392000.0
    with pytest.raises(ValueError, match="another form"):
        _identity_ends({"certificates": [{"cert_chain": [{"subject_alt_names": [{"uri": "spiffe://a"}]}]}]})
