"""Networks, masks, exports and measurements as people see them in notebooks: tables and pictures."""
