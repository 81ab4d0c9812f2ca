"""Makes the witnesses known by name, see `oracles`."""

import oracles  # noqa: F401
