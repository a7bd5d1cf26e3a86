"""Signing in by token: the server's own makes its holder the owner, an invitation its person. Nobody has a password."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user, login
from django.contrib.auth.backends import BaseBackend
from django.contrib.sessions.backends.db import SessionStore
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from playground.errors import BadParameter, TooManyTries, WrongToken
from playground.models import SignInLink, User
from playground.models.person import MAX_NAME

OWNER_NAME = "Owner"
INVITATION_DAYS = 7
WRONG_PER_MINUTE = 10
MAX_TOKEN = 200
BACKEND = "playground.access.signin.TokenBackend"


class TokenBackend(BaseBackend):
    """Finds the person of a session. It checks no credentials: `sign_in` does, before it starts the session."""

    def get_user(self, user_id: int) -> User | None:
        return User.objects.filter(pk=user_id, is_active=True).first()


class Tries:
    """Counts wrong tokens by address over a sliding minute, for at most `addresses` of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, addresses: int = 10_000) -> None:
        self.clock = clock
        self.addresses = addresses
        self.times: OrderedDict[str, list[float]] = OrderedDict()
        self.lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raises TooManyTries when this address has had its share. Right tokens wait as well, or it could guess."""
        with self.lock:
            since = self.clock() - 60
            recent = [at for at in self.times.get(address, ()) if at > since]
            if len(recent) >= WRONG_PER_MINUTE:
                raise TooManyTries

    def wrong(self, address: str) -> None:
        with self.lock:
            times = self.times.setdefault(address, [])
            times.append(self.clock())
            del times[:-WRONG_PER_MINUTE]
            self.times.move_to_end(address)
            while len(self.times) > self.addresses:
                self.times.popitem(last=False)


tries = Tries()


def sign_in(request: HttpRequest, token: str) -> User:
    """Start the session of whom `token` belongs to. Raises WrongToken or TooManyTries."""
    address = request.META.get("REMOTE_ADDR", "")
    tries.check(address)
    person = _person_of_token(token)
    if person is None:
        tries.wrong(address)
        raise WrongToken
    login(request, person, backend=BACKEND)
    return person


def invite(name: str) -> str:
    """Make a one-time token that signs in `name`, who is created if need be. Raises BadParameter."""
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise BadParameter("name", f"A name has 1 to {MAX_NAME} printable characters.")
    person = User.objects.filter(name=name).first() or User.objects.create_person(name)
    if person.is_owner:
        raise BadParameter("name", f"{name} is the owner, who signs in with the server's own token.")
    token = secrets.token_urlsafe(32)
    expires_at = timezone.now() + timedelta(days=INVITATION_DAYS)
    SignInLink.objects.create(person=person, token_sha256=_hash(token), expires_at=expires_at)
    return token


def person_of_session(session_key: str | None) -> User | None:
    """Who is signed in with this session now; None when it has ended. Doors without an HttpRequest ask here."""
    if not session_key:
        return None
    request = HttpRequest()
    request.session = SessionStore(session_key)
    person = get_user(request)
    return person if isinstance(person, User) else None


def _person_of_token(token: str) -> User | None:
    if not token or len(token) > MAX_TOKEN:
        return None
    own = settings.DIPTYCH_TOKEN
    if own and secrets.compare_digest(token.encode(errors="surrogatepass"), own.encode()):
        return _owner()
    now = timezone.now()
    links = SignInLink.objects.filter(token_sha256=_hash(token), used_at=None, expires_at__gt=now)
    with transaction.atomic():  # the update decides who was first
        link = links.select_related("person").first()
        if link is None or not link.person.is_active or not links.update(used_at=now):
            return None
    return link.person


def _owner() -> User:
    owner = User.objects.filter(is_owner=True).first()
    if owner is not None:
        return owner
    try:
        with transaction.atomic():
            return User.objects.create_person(OWNER_NAME, owner=True)
    except IntegrityError:  # a second browser was as quick, or somebody was invited under this very name
        owner = User.objects.filter(is_owner=True).first()
        return owner or User.objects.create_person(f"{OWNER_NAME} {secrets.token_hex(2)}", owner=True)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
