"""Pages over stores: `columns` flattens rows, `points` joins what belongs together, `pictures` draws, `page` writes.

`comparison` compares two stores cell by cell.
"""
