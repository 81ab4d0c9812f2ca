"""What people see: progress while a call works, and its results as tables and pictures in a notebook."""
