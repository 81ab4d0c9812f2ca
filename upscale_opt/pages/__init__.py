"""Reports that people read: tables in every form, bars, pictures of orders, and pages of HTML that need nothing else.

- `html` keeps text and markup apart: what is not `Html` is escaped.
- `tables` has the one model of a table, on `grids`; `table_forms` writes it as text, CSV, LaTeX and HTML.
- `bars` and `orders` draw; `states` says what is drawn of every channel under an order.
- `page` puts parts together, in the looks of `looks`; `facts` has the parts that all pages share.

This room knows no network, and does not import torch.
"""
