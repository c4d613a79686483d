"""What the operator is told without asking."""

from app.domain.notices import Notice, NoticeKind
from tests.harness import Koi


def test_the_same_notice_is_queued_once_in_its_period(koi: Koi) -> None:
    def publish(subject: str, occasion: str = "") -> bool:
        notice = Notice(NoticeKind.LIMIT_REQUESTED, subject, {"reason": "a poster"}, occasion)
        return koi.operate(lambda operator: operator.notices.publish(notice))

    assert publish("user:ann")
    assert not publish("user:ann")
    assert publish("user:bob")
    assert publish("user:ann", "another day")
