"""Makes the witnesses known by name, see `oracles`."""

from oracles import register_witnesses

register_witnesses()
