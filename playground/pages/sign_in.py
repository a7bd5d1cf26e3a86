"""Signing in by pasting a token, and out."""

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from playground.access.signin import sign_in as sign_in_by
from playground.errors import TooManyTries, WrongToken

TEMPLATE = "pages/sign_in/page.html"


@require_http_methods(["GET", "POST"])
@never_cache
@login_not_required
def sign_in(request: HttpRequest) -> HttpResponse:
    onward = _onward(request)
    if request.method == "GET":
        return redirect(onward) if request.user.is_authenticated else render(request, TEMPLATE, {"next": onward})
    try:
        sign_in_by(request, token_in(request.POST.get("token", "")))
    except (WrongToken, TooManyTries) as error:
        return render(request, TEMPLATE, {"error": error, "next": onward}, status=error.status)
    return redirect(onward)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign_in")


def token_in(pasted: str) -> str:
    """The token, also where somebody pasted the whole address that holds it."""
    pasted = pasted.strip()
    return pasted.split("token=", 1)[1].split("&", 1)[0] if "token=" in pasted else pasted


def _onward(request: HttpRequest) -> str:
    """Where to go next: `next` if it lies on this server, else the compare page."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    here = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if here else "/"
