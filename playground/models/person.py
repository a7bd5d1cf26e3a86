"""People, and the one-time links by which they first come in. Nobody has a password."""

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

MAX_NAME = 80


class People(BaseUserManager["User"]):
    def create_person(self, name: str, *, owner: bool = False) -> "User":
        """Save a new person. Raises django.db.IntegrityError when the name, or the owner, is there already."""
        person = User(name=name, is_owner=owner)
        person.set_unusable_password()
        person.save(using=self._db)
        return person


class User(AbstractBaseUser):
    """A person, by the name that others see. The owner is who signs in with the server's own token."""

    name = models.CharField(max_length=MAX_NAME, unique=True)
    is_owner = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)  # type: ignore[assignment]
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "name"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = People()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["is_owner"], condition=models.Q(is_owner=True), name="one_owner"),
        ]

    def __str__(self) -> str:
        return self.name


class SignInLink(models.Model):
    """An invitation: signs `person` in once. Only the hash of its token is kept."""

    person = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    token_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"invitation of {self.person}"
