"""Whether the kernel has nf_tables, by its own answer."""

import errno

import pytest

from hotswitch.kernel import nf_tables

NO_SUCH_SUBSYSTEM = 99 << 8


@pytest.mark.unit
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (0, False),
        (errno.EINVAL, True),  # nfnetlink without the subsystem
        (errno.EOPNOTSUPP, True),
        (errno.EPROTONOSUPPORT, True),  # no nfnetlink at all
        (errno.ENOENT, True),
        (errno.EPERM, False),  # says nothing of the kernel
        (errno.ETIMEDOUT, False),
    ],
)
def test_what_the_answer_means(code: int, absent: bool) -> None:
    assert nf_tables.means_absent(code) is absent


@pytest.mark.netns
def test_this_kernel_answers_for_a_subsystem_that_is_missing_as_is_expected(netns: str) -> None:
    assert not nf_tables.absent(netns)
    assert nf_tables.means_absent(nf_tables.answer(netns, NO_SUCH_SUBSYSTEM))
