"""What all solvers share: task and finding, incumbents, bounds without search, rows and classes, one run of CP-SAT."""
