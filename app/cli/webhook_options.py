"""The default webhook of a key or user, as commands take it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.errors import usage_error

if TYPE_CHECKING:
    from app.service.webhooks import Webhooks
    from app.wiring.operator import OperatorContext


@Parameter(name="*")
@dataclass(frozen=True)
class WebhookOptions:
    """As typed; what is not given stays as it is."""

    webhook: Annotated[
        str | None,
        Parameter(help="URL that is told how tasks end, unless a request names another."),
    ] = None
    no_webhook: Annotated[bool, Parameter(help="Tell nobody by default.")] = False

    @property
    def given(self) -> bool:
        if self.webhook is not None and self.no_webhook:
            raise usage_error("Give --webhook or --no-webhook, not both.")
        return self.webhook is not None or self.no_webhook

    def choose(self, context: "OperatorContext") -> str | None:
        """The URL, once it is known that something may be posted there. Raises `WebhookInvalid`."""
        if self.webhook is None:
            return None
        from app.service.webhooks import check_default_webhook  # noqa: PLC0415 - rarely needed
        from app.wiring.deliveries import open_poster  # noqa: PLC0415

        return check_default_webhook(open_poster(context.settings), self.webhook)


NO_WEBHOOK_OPTIONS = WebhookOptions()


def open_webhooks(context: "OperatorContext") -> "Webhooks":
    from app.service.webhook_secrets import WebhookSecrets  # noqa: PLC0415 - rarely needed
    from app.service.webhooks import Webhooks  # noqa: PLC0415
    from app.wiring.deliveries import open_poster  # noqa: PLC0415

    settings = context.settings
    return Webhooks(
        context.deliveries,
        open_poster(settings),
        WebhookSecrets(context.keyring, context.actor),
        round(settings.webhook_lifetime_s * 1000),
    )
