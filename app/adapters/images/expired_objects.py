"""Which objects of a bucket's listing have lived long enough."""

from datetime import datetime

from app.domain.media import IMAGE_NAME, picture_of


class ExpiredObjects:
    """Takes the objects in the order of their names, in which previews follow their picture: they
    go with it, and when it is gone."""

    def __init__(self, cutoff: datetime) -> None:
        self._cutoff = cutoff
        self._latest: tuple[str, bool] | None = None

    def take(self, path: str, modified: datetime) -> bool:
        """Whether this object is to be removed."""
        is_old = modified < self._cutoff
        if IMAGE_NAME.fullmatch(path):
            self._latest = path, is_old
            return is_old
        picture = picture_of(path)
        if picture is None:
            return False
        if self._latest is None:
            return is_old  # the listing began behind its picture
        latest, latest_is_old = self._latest
        return latest_is_old if picture == latest else True
