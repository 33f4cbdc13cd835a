"""How the packaged demonstrations are made. Run each script from the root of the checkout: ``python -m demos.make_demos``."""
