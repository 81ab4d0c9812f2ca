"""Which accesses can be views together: the consecutive-ones test, conflicts, and the program for copies."""
