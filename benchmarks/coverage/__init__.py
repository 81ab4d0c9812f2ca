"""Which networks are exported without an error? Every model, amount, mode and solver is verified."""
