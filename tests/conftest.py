"""Imported before any test: utils comes before torch, whose threads it sets up."""

import utils  # noqa: F401
