"""What is raised for runs that cannot be compared."""


class ComparisonError(ValueError):
    """Runs that cannot be compared. The message names what was found, what was expected and how to mend it."""
