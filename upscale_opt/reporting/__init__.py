"""Saves what was found as a page that people read: `page_of` chooses the page, `save_report` writes it."""
