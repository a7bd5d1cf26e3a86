"""Reads what a rendered page hands to its script. Not a test itself."""

import json
import re
from typing import Any

from django.http import HttpResponse


def start_of(response: HttpResponse) -> dict[str, Any]:
    found = re.search(r'<script id="start" type="application/json">(.*?)</script>', response.content.decode(), re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data
