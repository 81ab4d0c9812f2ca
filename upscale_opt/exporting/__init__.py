"""Makes verified exports from plans, which train as the masked network does, and rebuilds exports from saved plans."""
