"""Small stages, finished as far as an experiment asks."""

from tests.small_stages import params, ready  # noqa: F401  (fixtures)
