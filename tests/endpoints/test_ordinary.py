"""Which Services may be taken over, and what is refused with a reason (S2.1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotswitch.api.adopt import ADOPT, ADOPT_MINIMUM, ADOPTED, wish
from hotswitch.api.service import MODE, SELECTOR
from hotswitch.api.values import InvalidValue
from hotswitch.endpoints import assemble, objects
from hotswitch.endpoints.ordinary import adoptable, careful

pytestmark = pytest.mark.unit
ASKS = {ADOPT: "when-below"}
TAKEN = {ADOPTED: "app=web"}


def service(annotations: dict[str, str], selector: dict[str, str] | None = None, **spec: Any) -> objects.Service:
    content = {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": selector, **spec},
    }
    return msgspec.convert(content, objects.Service, strict=False)


WEB = {"app": "web"}


@pytest.mark.parametrize(
    ("given", "selector"),
    [
        (service(ASKS, WEB), WEB),
        (service(ASKS | TAKEN), WEB),
        (service(TAKEN), WEB),  # nobody asks any more: it is handed back
        (service(ASKS | TAKEN, {"app": "other"}), {"app": "other"}),
        (service({}, WEB), None),
        (service({MODE: "all", SELECTOR: "app=web"}), None),
    ],
)
def test_by_whom_its_pods_are_chosen(given: objects.Service, selector: dict[str, str] | None) -> None:
    record = adoptable(given)
    assert (None if record is None else record.selector) == selector


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (service(ASKS), "without spec.selector"),
        (service(ASKS, WEB, clusterIP="None"), "headless"),
        (service(ASKS, WEB, publishNotReadyAddresses=True), "not needed"),
        (service(ASKS, WEB, type="ExternalName"), "ExternalName"),
        (service(ASKS | {MODE: "all"}, WEB), "means nothing on a Service with"),
        (service({ADOPT: "yes"}, WEB), "is not when-below"),
        (service(ASKS, {"app": "a,b"}), "would not come back"),
        (service(ASKS | {ADOPTED: "web"}), "is not label=value"),
    ],
)
def test_what_is_refused(given: objects.Service, why: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        adoptable(given)
    assert why in str(raised.value)


def test_what_is_taken_over_and_cannot_be_read_is_kept_while_a_pod_needs_it() -> None:
    record = careful(service(ASKS | TAKEN | {ADOPT_MINIMUM: "plenty"}))
    assert record is not None and record.selector == WEB
    assert wish(record.annotations).minimum.percent == 100
    assert careful(service(ASKS | {ADOPT_MINIMUM: "plenty"}, WEB)) is None


def test_a_service_that_is_taken_over_is_not_ours_for_ever() -> None:
    with pytest.raises(InvalidValue) as raised:
        assemble.service(service({MODE: "all", SELECTOR: "app=web"} | TAKEN))
    assert "has to wait" in str(raised.value)
