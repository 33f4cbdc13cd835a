"""What is raised for demonstrations that cannot be used."""


class DemonstrationsError(ValueError):
    """Demonstrations that cannot be used. The message names what was found, what was expected and how to mend it."""
