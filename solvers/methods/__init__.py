"""The solvers, one file each. `solvers.registry` gives them their names. The solver `auto` is in `solvers.roads`."""
