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
from django.utils.html import format_html, format_html_join
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
    body = json.dumps({"imports": imports}, separators=(",", ":"))
    # Escaped as JSON in a script element must be: nothing in it can close the element.
    body = mark_safe(body.replace("<", "\\u003c"))  # noqa: S308
    return format_html('<script type="importmap" nonce="{}">{}</script>', context["request"].csp_nonce, body)


@register.simple_tag
def module_preloads() -> SafeString:
    """`<link rel="modulepreload">` for every module, so that they load side by side and not one after another."""
    links = ((static(name),) for name in _modules() if name != "js/theme.js")  # which is none
    return format_html_join("", '<link rel="modulepreload" href="{}">', links)
