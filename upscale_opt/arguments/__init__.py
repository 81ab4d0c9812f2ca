"""What may be given to a public function: every argument is checked before any work starts.

`entrance` decorates the public functions, `checks` has the checks, `mask_arrays` makes masks Boolean arrays. No torch.
"""
