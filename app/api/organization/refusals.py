"""The refusals of the administration's use cases, in the words of HTTP."""

from collections.abc import Callable, Mapping
from functools import partial

from app.domain.administration import Conflict, ObjectNotFound
from app.domain.errors import GatewayError, InvalidRequest
from app.service import admin_errors
from app.service.configuration_file import ConfigurationInvalid

_INVALID = partial(InvalidRequest, "invalid_value")
_TRANSLATIONS: Mapping[type[admin_errors.AdminError], Callable[[], GatewayError]] = {
    admin_errors.UserUnknown: partial(
        ObjectNotFound, "There is no such user or service account here."
    ),
    admin_errors.TeamUnknown: partial(ObjectNotFound, "There is no such project."),
    admin_errors.JobUnknown: partial(ObjectNotFound, "The ledger knows no such job."),
    admin_errors.KeyUnknown: partial(ObjectNotFound, "There is no such key, or it has ended."),
    admin_errors.NameTaken: partial(
        Conflict, "This name is taken; nothing was changed. Choose another.", param="name"
    ),
    admin_errors.TeamArchived: partial(
        Conflict, "This project is archived; restore it with `koi teams restore`."
    ),
    admin_errors.ModelUnknown: partial(
        _INVALID, "Only models of GET /v1/models are known.", param="model_ids"
    ),
    admin_errors.BudgetUnpriced: partial(
        _INVALID,
        "A money limit cannot be kept while a model has no price in the catalog.",
        param="threshold_amount",
    ),
    admin_errors.AlertUnpriced: partial(
        _INVALID,
        "What is spent is not known while a model has no price in the catalog.",
        param="threshold_amount",
    ),
    admin_errors.InvitationUnknown: partial(
        ObjectNotFound, "There is no such invitation, or it became a key."
    ),
    admin_errors.AlertUnknown: partial(ObjectNotFound, "There is no such spend alert."),
    admin_errors.TooManyAlerts: partial(
        Conflict, "There are too many spend alerts; nothing was changed. Delete some first."
    ),
    admin_errors.RaiseInvalid: partial(
        _INVALID,
        "A raise adds to limits that are set, until a time ahead; nothing was changed.",
        param="until",
    ),
    admin_errors.NameInvalid: partial(
        _INVALID, "This cannot be a name; at most 120 printable characters.", param="name"
    ),
}


def translate(error: admin_errors.AdminError) -> GatewayError:
    """The refusal of a use case, without the hints for the command line."""
    if isinstance(error, ConfigurationInvalid):
        return InvalidRequest("invalid_value", str(error))
    if isinstance(error, admin_errors.AdjustmentRefused):
        return Conflict(str(error))
    build = _TRANSLATIONS.get(type(error))
    if build is None:
        return Conflict("What is there already does not allow this; nothing was changed.")
    return build()
