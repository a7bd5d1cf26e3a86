"""The import map: plain addresses of our modules to the hashed files that are really served.

Modules import each other by relative paths, as node and editors understand them; the map lets a browser find the
hashed name. It must stand before the first module script, and lists only what lies under static/js.
"""

import json
from functools import cache
from pathlib import Path

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
ROOT = Path(settings.BASE_DIR) / "static"


@cache
def _modules() -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "js").rglob("*.js")))


@register.simple_tag(takes_context=True)
def module_map(context: template.Context) -> SafeString:
    """`<script type="importmap">` for every module, with this request's nonce."""
    imports = {f"{settings.STATIC_URL}{name}": static(name) for name in _modules()}
    # No name of a file can close the script element: static() quotes addresses, and `<` is escaped all the same.
    body = mark_safe(json.dumps({"imports": imports}, separators=(",", ":")).replace("<", "\\u003c"))
    return format_html('<script type="importmap" nonce="{}">{}</script>', context.get("csp_nonce", ""), body)


@register.simple_tag
def module_preloads() -> SafeString:
    """`<link rel="modulepreload">` for every module, so that they load side by side and not one after the other."""
    return mark_safe(  # each address is escaped
        "".join(format_html('<link rel="modulepreload" href="{}">', static(name)) for name in _modules())
    )
