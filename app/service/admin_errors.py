"""What an operator or an administration client asked for and cannot have."""


class AdminError(Exception):
    """The operator asked for something impossible; the message says what to do."""


class NameInvalid(AdminError):
    pass


class NameTaken(AdminError):
    pass


class UserUnknown(AdminError):
    pass


class TeamUnknown(AdminError):
    pass


class KeyUnknown(AdminError):
    pass


class TeamInUse(AdminError):
    pass


class TeamArchived(AdminError):
    pass


class ModelUnknown(AdminError):
    pass


class BudgetUnpriced(AdminError):
    pass


class AlertUnpriced(AdminError):
    pass


class JobUnknown(AdminError):
    pass


class AdjustmentRefused(AdminError):
    pass


class RaiseInvalid(AdminError):
    pass


class AlertUnknown(AdminError):
    pass


class InvitationUnknown(AdminError):
    pass


class WebhookInvalid(AdminError):
    pass


class TooManyAlerts(AdminError):
    pass
