"""Lower bounds on spans: levels, from the sets that open first."""
