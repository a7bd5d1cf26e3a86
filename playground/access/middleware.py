"""`/?token=…` on any page signs in, then leads to the same page without the token."""

from collections.abc import Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.encoding import escape_uri_path

from playground.errors import TooManyTries, WrongToken

from .signin import sign_in

SIGN_IN_PAGE = "pages/sign_in/page.html"


class TokenSignIn:
    """Middleware, after sessions. A wrong token shows the sign-in page and why, and changes nothing."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[..., HttpResponse]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if iscoroutinefunction(self):
            return self.acall(request)  # type: ignore[return-value]
        return self.answer(request) or self.get_response(request)

    async def acall(self, request: HttpRequest) -> HttpResponse:
        response = await sync_to_async(self.answer)(request) if "token" in request.GET else None
        return response or await self.get_response(request)  # type: ignore[misc]

    def answer(self, request: HttpRequest) -> HttpResponse | None:
        """None when the request brings no token."""
        if "token" not in request.GET or request.method not in ("GET", "HEAD"):
            return None
        try:
            sign_in(request, request.GET["token"])
        except (WrongToken, TooManyTries) as error:
            return refused(request, error)
        rest = request.GET.copy()
        del rest["token"]
        # One slash: `//evil.example/?token=…` must not become an address on another host.
        path = escape_uri_path("/" + request.path.lstrip("/\\"))
        response = HttpResponseRedirect(f"{path}?{rest.urlencode()}" if rest else path)
        response["Cache-Control"] = "no-store"
        return response


def refused(request: HttpRequest, error: WrongToken | TooManyTries) -> HttpResponse:
    """The sign-in page with the reason on it."""
    response = render(request, SIGN_IN_PAGE, {"error": error}, status=error.status)
    response["Cache-Control"] = "no-store"
    return response
