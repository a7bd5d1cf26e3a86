"""`manage.py invite NAME`: a link that signs somebody in, once."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from playground.access import signin
from playground.errors import BadParameter


class Command(BaseCommand):
    help = f"Print a link that signs NAME in, once, within {signin.INVITATION_DAYS} days."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the name that others will see")
        parser.add_argument(
            "--address",
            default=f"http://{settings.DIPTYCH_HOST}:{settings.DIPTYCH_PORT}",
            help="where this server is reached (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            token = signin.invite(options["name"])
        except BadParameter as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{options['address'].rstrip('/')}/?token={token}")
