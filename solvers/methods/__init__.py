"""The solvers, one file each, as `solvers.registry` names them; `auto` is in `solvers.roads`."""
