"""envoy-data-plane's own modules warn about pydantic when they are first imported; that is not our tests' business."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import hotswitch.rescue.drafting
    import hotswitch.rescue.sds
    import hotswitch.rescue.service  # noqa: F401
