"""`/healthz`: this process answers. `/readyz`: everything that an answer needs is there, or what is missing."""

from dataclasses import asdict

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from playground.runs import readiness


@login_not_required
@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"ok": True})


@login_not_required
@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    checks = await readiness.checks()
    ready = all(check.ok for check in checks.values())
    answer = JsonResponse(
        {"ready": ready, "checks": {name: asdict(check) for name, check in checks.items()}},
        status=200 if ready else 503,
    )
    answer["Cache-Control"] = "no-store"
    answer._has_been_logged = True  # "not yet" is an answer, and no error to fill the log with
    return answer
