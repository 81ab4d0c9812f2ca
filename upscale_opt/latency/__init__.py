"""How long things take: profiles, measured cost tables, and the ways to read that they find cheapest.

`calibration` times `specimens` of every consumer into `cost_tables`; `measured_costs` makes of them what solvers see;
`readings` looks up how each access is read; `profiling` times whole models and `access_profiles` single accesses;
`agreement` compares predictions with measurements. The checks of whole orders are in
`upscale_opt.comparing.order_checks`.
"""
