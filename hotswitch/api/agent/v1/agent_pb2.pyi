from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromAgent(_message.Message):
    __slots__ = ("hello", "beat", "pod", "line", "gone", "question")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    beat: Beat
    pod: PodReport
    line: Line
    gone: PodGone
    question: Question
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., pod: _Optional[_Union[PodReport, _Mapping]] = ..., line: _Optional[_Union[Line, _Mapping]] = ..., gone: _Optional[_Union[PodGone, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class ToAgent(_message.Message):
    __slots__ = ("welcome", "allotment", "grant", "withdrawal", "opinion", "written")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ALLOTMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    OPINION_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    allotment: Allotment
    grant: PodGrant
    withdrawal: Withdrawal
    opinion: Opinion
    written: Written
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., allotment: _Optional[_Union[Allotment, _Mapping]] = ..., grant: _Optional[_Union[PodGrant, _Mapping]] = ..., withdrawal: _Optional[_Union[Withdrawal, _Mapping]] = ..., opinion: _Optional[_Union[Opinion, _Mapping]] = ..., written: _Optional[_Union[Written, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("newest", "oldest", "node", "pod_uid", "instance", "software", "term", "acts_on", "places", "drills")
    class PlacesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ACTS_ON_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    DRILLS_FIELD_NUMBER: _ClassVar[int]
    newest: int
    oldest: int
    node: str
    pod_uid: str
    instance: str
    software: str
    term: int
    acts_on: Order
    places: _containers.ScalarMap[str, int]
    drills: bool
    def __init__(self, newest: _Optional[int] = ..., oldest: _Optional[int] = ..., node: _Optional[str] = ..., pod_uid: _Optional[str] = ..., instance: _Optional[str] = ..., software: _Optional[str] = ..., term: _Optional[int] = ..., acts_on: _Optional[_Union[Order, _Mapping]] = ..., places: _Optional[_Mapping[str, int]] = ..., drills: _Optional[bool] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("term", "serial")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    term: int
    serial: int
    def __init__(self, term: _Optional[int] = ..., serial: _Optional[int] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("number", "acts_on", "used", "dropped")
    class UsedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACTS_ON_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    number: int
    acts_on: Order
    used: _containers.ScalarMap[str, int]
    dropped: int
    def __init__(self, number: _Optional[int] = ..., acts_on: _Optional[_Union[Order, _Mapping]] = ..., used: _Optional[_Mapping[str, int]] = ..., dropped: _Optional[int] = ...) -> None: ...

class PodReport(_message.Message):
    __slots__ = ("uid", "standing", "diagnosis", "ability", "identity_expires_in_s", "path_passes", "istio_rules", "istio_incomplete", "stand_in", "drilled")
    UID_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    DIAGNOSIS_FIELD_NUMBER: _ClassVar[int]
    ABILITY_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    PATH_PASSES_FIELD_NUMBER: _ClassVar[int]
    ISTIO_RULES_FIELD_NUMBER: _ClassVar[int]
    ISTIO_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    STAND_IN_FIELD_NUMBER: _ClassVar[int]
    DRILLED_FIELD_NUMBER: _ClassVar[int]
    uid: str
    standing: Standing
    diagnosis: Diagnosis
    ability: Ability
    identity_expires_in_s: float
    path_passes: int
    istio_rules: str
    istio_incomplete: bool
    stand_in: str
    drilled: Drilled
    def __init__(self, uid: _Optional[str] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., diagnosis: _Optional[_Union[Diagnosis, _Mapping]] = ..., ability: _Optional[_Union[Ability, _Mapping]] = ..., identity_expires_in_s: _Optional[float] = ..., path_passes: _Optional[int] = ..., istio_rules: _Optional[str] = ..., istio_incomplete: _Optional[bool] = ..., stand_in: _Optional[str] = ..., drilled: _Optional[_Union[Drilled, _Mapping]] = ...) -> None: ...

class Drilled(_message.Message):
    __slots__ = ("id", "result", "why", "served", "lost", "durations_s")
    class DurationsSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_S_FIELD_NUMBER: _ClassVar[int]
    id: str
    result: str
    why: str
    served: int
    lost: int
    durations_s: _containers.ScalarMap[str, float]
    def __init__(self, id: _Optional[str] = ..., result: _Optional[str] = ..., why: _Optional[str] = ..., served: _Optional[int] = ..., lost: _Optional[int] = ..., durations_s: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("level", "ports")
    class PortsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    level: str
    ports: _containers.ScalarMap[int, str]
    def __init__(self, level: _Optional[str] = ..., ports: _Optional[_Mapping[int, str]] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("generation", "levels", "openings", "opened_age_s", "expires_in_s", "fault", "fault_age_s", "recent_fault_ages_s", "hold_down_s", "hold_down_left_s", "induced", "ordered", "said", "ever_ready")
    class LevelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class OpeningsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Opening
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Opening, _Mapping]] = ...) -> None: ...
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    OPENINGS_FIELD_NUMBER: _ClassVar[int]
    OPENED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    FAULT_AGE_S_FIELD_NUMBER: _ClassVar[int]
    RECENT_FAULT_AGES_S_FIELD_NUMBER: _ClassVar[int]
    HOLD_DOWN_S_FIELD_NUMBER: _ClassVar[int]
    HOLD_DOWN_LEFT_S_FIELD_NUMBER: _ClassVar[int]
    INDUCED_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    EVER_READY_FIELD_NUMBER: _ClassVar[int]
    generation: int
    levels: _containers.ScalarMap[str, str]
    openings: _containers.MessageMap[str, Opening]
    opened_age_s: float
    expires_in_s: float
    fault: str
    fault_age_s: float
    recent_fault_ages_s: _containers.RepeatedScalarFieldContainer[float]
    hold_down_s: float
    hold_down_left_s: float
    induced: bool
    ordered: _containers.RepeatedScalarFieldContainer[str]
    said: _containers.RepeatedScalarFieldContainer[str]
    ever_ready: bool
    def __init__(self, generation: _Optional[int] = ..., levels: _Optional[_Mapping[str, str]] = ..., openings: _Optional[_Mapping[str, Opening]] = ..., opened_age_s: _Optional[float] = ..., expires_in_s: _Optional[float] = ..., fault: _Optional[str] = ..., fault_age_s: _Optional[float] = ..., recent_fault_ages_s: _Optional[_Iterable[float]] = ..., hold_down_s: _Optional[float] = ..., hold_down_left_s: _Optional[float] = ..., induced: _Optional[bool] = ..., ordered: _Optional[_Iterable[str]] = ..., said: _Optional[_Iterable[str]] = ..., ever_ready: _Optional[bool] = ...) -> None: ...

class Diagnosis(_message.Message):
    __slots__ = ("fault", "grade", "sentence", "evidence", "age_s")
    class EvidenceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FAULT_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    fault: str
    grade: str
    sentence: str
    evidence: _containers.ScalarMap[str, str]
    age_s: float
    def __init__(self, fault: _Optional[str] = ..., grade: _Optional[str] = ..., sentence: _Optional[str] = ..., evidence: _Optional[_Mapping[str, str]] = ..., age_s: _Optional[float] = ...) -> None: ...

class Ability(_message.Message):
    __slots__ = ("gate_refusal", "rescue_refusal", "rescue_deaths")
    GATE_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RESCUE_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RESCUE_DEATHS_FIELD_NUMBER: _ClassVar[int]
    gate_refusal: str
    rescue_refusal: str
    rescue_deaths: int
    def __init__(self, gate_refusal: _Optional[str] = ..., rescue_refusal: _Optional[str] = ..., rescue_deaths: _Optional[int] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("at", "event", "uid", "who", "generation", "code", "why", "evidence", "rules_before", "rules_after", "istio_rules", "durations_ms", "failed", "number")
    class EvidenceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class DurationsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    AT_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    RULES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RULES_AFTER_FIELD_NUMBER: _ClassVar[int]
    ISTIO_RULES_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_MS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    at: str
    event: str
    uid: str
    who: str
    generation: int
    code: str
    why: str
    evidence: _containers.ScalarMap[str, str]
    rules_before: str
    rules_after: str
    istio_rules: str
    durations_ms: _containers.ScalarMap[str, float]
    failed: str
    number: int
    def __init__(self, at: _Optional[str] = ..., event: _Optional[str] = ..., uid: _Optional[str] = ..., who: _Optional[str] = ..., generation: _Optional[int] = ..., code: _Optional[str] = ..., why: _Optional[str] = ..., evidence: _Optional[_Mapping[str, str]] = ..., rules_before: _Optional[str] = ..., rules_after: _Optional[str] = ..., istio_rules: _Optional[str] = ..., durations_ms: _Optional[_Mapping[str, float]] = ..., failed: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class PodGone(_message.Message):
    __slots__ = ("uid",)
    UID_FIELD_NUMBER: _ClassVar[int]
    uid: str
    def __init__(self, uid: _Optional[str] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("uid", "number", "timeout_s")
    UID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    uid: str
    number: int
    timeout_s: float
    def __init__(self, uid: _Optional[str] = ..., number: _Optional[int] = ..., timeout_s: _Optional[float] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "term", "beat_s", "answers", "confirms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    BEAT_S_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMS_FIELD_NUMBER: _ClassVar[int]
    version: int
    term: int
    beat_s: float
    answers: bool
    confirms: bool
    def __init__(self, version: _Optional[int] = ..., term: _Optional[int] = ..., beat_s: _Optional[float] = ..., answers: _Optional[bool] = ..., confirms: _Optional[bool] = ...) -> None: ...

class Written(_message.Message):
    __slots__ = ("uid", "up_to")
    UID_FIELD_NUMBER: _ClassVar[int]
    UP_TO_FIELD_NUMBER: _ClassVar[int]
    uid: str
    up_to: int
    def __init__(self, uid: _Optional[str] = ..., up_to: _Optional[int] = ...) -> None: ...

class Opinion(_message.Message):
    __slots__ = ("uid", "number", "asked", "answered", "silent")
    UID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    uid: str
    number: int
    asked: int
    answered: int
    silent: int
    def __init__(self, uid: _Optional[str] = ..., number: _Optional[int] = ..., asked: _Optional[int] = ..., answered: _Optional[int] = ..., silent: _Optional[int] = ...) -> None: ...

class Allotment(_message.Message):
    __slots__ = ("term", "serial", "beat", "life_s", "places", "frozen", "mates")
    class PlacesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TERM_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    LIFE_S_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    MATES_FIELD_NUMBER: _ClassVar[int]
    term: int
    serial: int
    beat: int
    life_s: float
    places: _containers.ScalarMap[str, int]
    frozen: str
    mates: _containers.RepeatedCompositeFieldContainer[Mates]
    def __init__(self, term: _Optional[int] = ..., serial: _Optional[int] = ..., beat: _Optional[int] = ..., life_s: _Optional[float] = ..., places: _Optional[_Mapping[str, int]] = ..., frozen: _Optional[str] = ..., mates: _Optional[_Iterable[_Union[Mates, _Mapping]]] = ...) -> None: ...

class Mates(_message.Message):
    __slots__ = ("workload", "ages_s")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    AGES_S_FIELD_NUMBER: _ClassVar[int]
    workload: str
    ages_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, workload: _Optional[str] = ..., ages_s: _Optional[_Iterable[float]] = ...) -> None: ...

class PodGrant(_message.Message):
    __slots__ = ("uid", "term", "version", "policy", "authorization", "spiffe_id", "trust_domains", "override", "drill")
    UID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    DRILL_FIELD_NUMBER: _ClassVar[int]
    uid: str
    term: int
    version: int
    policy: Policy
    authorization: _containers.RepeatedScalarFieldContainer[str]
    spiffe_id: str
    trust_domains: _containers.RepeatedScalarFieldContainer[str]
    override: Override
    drill: DrillOrder
    def __init__(self, uid: _Optional[str] = ..., term: _Optional[int] = ..., version: _Optional[int] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., authorization: _Optional[_Iterable[str]] = ..., spiffe_id: _Optional[str] = ..., trust_domains: _Optional[_Iterable[str]] = ..., override: _Optional[_Union[Override, _Mapping]] = ..., drill: _Optional[_Union[DrillOrder, _Mapping]] = ...) -> None: ...

class DrillOrder(_message.Message):
    __slots__ = ("id", "for_s", "by")
    ID_FIELD_NUMBER: _ClassVar[int]
    FOR_S_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    id: str
    for_s: float
    by: str
    def __init__(self, id: _Optional[str] = ..., for_s: _Optional[float] = ..., by: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("mode", "inbound", "outbound", "outbound_free", "mtls", "mtls_by_port", "strict_granted", "never_direct", "expiry_s", "open_at_most_s", "hold_down_s", "hold_down_max_s", "thresholds", "dependencies", "stale_after_s", "certificate_ends_s")
    class MtlsByPortEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class DependenciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODE_FIELD_NUMBER: _ClassVar[int]
    INBOUND_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_FREE_FIELD_NUMBER: _ClassVar[int]
    MTLS_FIELD_NUMBER: _ClassVar[int]
    MTLS_BY_PORT_FIELD_NUMBER: _ClassVar[int]
    STRICT_GRANTED_FIELD_NUMBER: _ClassVar[int]
    NEVER_DIRECT_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_S_FIELD_NUMBER: _ClassVar[int]
    OPEN_AT_MOST_S_FIELD_NUMBER: _ClassVar[int]
    HOLD_DOWN_S_FIELD_NUMBER: _ClassVar[int]
    HOLD_DOWN_MAX_S_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    STALE_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_S_FIELD_NUMBER: _ClassVar[int]
    mode: str
    inbound: _containers.RepeatedScalarFieldContainer[str]
    outbound: _containers.RepeatedScalarFieldContainer[str]
    outbound_free: bool
    mtls: str
    mtls_by_port: _containers.ScalarMap[int, str]
    strict_granted: bool
    never_direct: _containers.RepeatedScalarFieldContainer[int]
    expiry_s: float
    open_at_most_s: float
    hold_down_s: float
    hold_down_max_s: float
    thresholds: Thresholds
    dependencies: _containers.ScalarMap[str, str]
    stale_after_s: float
    certificate_ends_s: float
    def __init__(self, mode: _Optional[str] = ..., inbound: _Optional[_Iterable[str]] = ..., outbound: _Optional[_Iterable[str]] = ..., outbound_free: _Optional[bool] = ..., mtls: _Optional[str] = ..., mtls_by_port: _Optional[_Mapping[int, str]] = ..., strict_granted: _Optional[bool] = ..., never_direct: _Optional[_Iterable[int]] = ..., expiry_s: _Optional[float] = ..., open_at_most_s: _Optional[float] = ..., hold_down_s: _Optional[float] = ..., hold_down_max_s: _Optional[float] = ..., thresholds: _Optional[_Union[Thresholds, _Mapping]] = ..., dependencies: _Optional[_Mapping[str, str]] = ..., stale_after_s: _Optional[float] = ..., certificate_ends_s: _Optional[float] = ...) -> None: ...

class Thresholds(_message.Message):
    __slots__ = ("probe_timeout_s", "hung_probes", "hung_queue_s", "loop_lag_s", "direct_after_s", "recover_probes", "recover_after_s", "second_within_s")
    PROBE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    HUNG_PROBES_FIELD_NUMBER: _ClassVar[int]
    HUNG_QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_S_FIELD_NUMBER: _ClassVar[int]
    DIRECT_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    RECOVER_PROBES_FIELD_NUMBER: _ClassVar[int]
    RECOVER_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    SECOND_WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    probe_timeout_s: float
    hung_probes: int
    hung_queue_s: float
    loop_lag_s: float
    direct_after_s: float
    recover_probes: int
    recover_after_s: float
    second_within_s: float
    def __init__(self, probe_timeout_s: _Optional[float] = ..., hung_probes: _Optional[int] = ..., hung_queue_s: _Optional[float] = ..., loop_lag_s: _Optional[float] = ..., direct_after_s: _Optional[float] = ..., recover_probes: _Optional[int] = ..., recover_after_s: _Optional[float] = ..., second_within_s: _Optional[float] = ...) -> None: ...

class Override(_message.Message):
    __slots__ = ("levels", "left_s", "reason", "by")
    class LevelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    LEFT_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    levels: _containers.ScalarMap[str, str]
    left_s: float
    reason: str
    by: str
    def __init__(self, levels: _Optional[_Mapping[str, str]] = ..., left_s: _Optional[float] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class Withdrawal(_message.Message):
    __slots__ = ("uid", "term", "version", "why")
    UID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    uid: str
    term: int
    version: int
    why: str
    def __init__(self, uid: _Optional[str] = ..., term: _Optional[int] = ..., version: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...
