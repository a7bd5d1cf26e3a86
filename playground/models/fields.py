"""A text column that gives back exactly what was put in, on SQLite and on PostgreSQL alike."""

from typing import Any

from django.db import models

_ESCAPE = "\ue0ff"  # a private-use character that no model or keyboard has reason to write
_NUL = _ESCAPE + "0"


class ExactTextField(models.TextField):  # type: ignore[type-arg]  # no subscript at run time
    """Text of any characters. PostgreSQL cannot keep U+0000, which a model may well write, so it is stored escaped."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if value is None or (_ESCAPE not in value and "\x00" not in value):
            return value
        return value.replace(_ESCAPE, _ESCAPE * 2).replace("\x00", _NUL)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        if value is None or _ESCAPE not in value:
            return value
        parts = value.split(_ESCAPE * 2)
        return _ESCAPE.join(part.replace(_NUL, "\x00") for part in parts)
