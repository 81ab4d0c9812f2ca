"""Which networks are exported exactly: every model, amount, mode and solver, verified one by one."""
