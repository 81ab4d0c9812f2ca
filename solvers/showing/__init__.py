"""Results as people see them in notebooks: tables and pictures."""
