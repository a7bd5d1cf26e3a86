"""Small filters that put times and states into words for lists."""

from datetime import datetime

from django import template
from django.utils import timezone

register = template.Library()
STEPS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "d"))


@register.filter
def ago(moment: datetime) -> str:
    """`just now`, `14 s ago`, `3 min ago`, `2 d ago`, and the date for what is older than a week."""
    seconds = max(0, int((timezone.now() - moment).total_seconds()))
    if seconds < 5:
        return "just now"
    for limit, unit, name in STEPS:
        if seconds < limit:
            return f"{seconds // unit} {name} ago"
    return moment.strftime("%-d %b %Y")


@register.inclusion_tag("_partials/icon.html")
def icon(name: str) -> dict[str, str]:
    """One symbol of the sprite, hidden from screen readers: the control around it has the words."""
    return {"name": name}
