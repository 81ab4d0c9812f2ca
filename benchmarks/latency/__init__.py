"""How fast exports are: unpruned, baseline, greedy, exact, and the floor that no order can beat."""
