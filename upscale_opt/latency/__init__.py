"""Latency: profiles, measured cost tables, and the readings that are cheapest in these tables.

- `profiling` measures whole models. `access_profiles` measures single accesses, with `access_nodes` and
  `access_traces`.
- `calibration` times `specimens` of every consumer and writes the times to `cost_tables`. `measured_costs` converts
  them to the cost tables of solvers.
- `readings` finds the cheapest reading of each access.
- `stored_widths` finds the widths of blocks that the device is faster with. `width_works` lists the operators that
  count, and `width_tables` holds their times.
- `agreement` and `misranking` compare predictions with measurements. `drift` removes the slow-down of whole rounds.
  `copies` makes copies of models to measure. `file_timing` measures saved files in a fresh process.
- `backends` prepares models for timing, `interleaving` times them in turn, in ONNX Runtime in the process of
  `onnx_worker`. `environment`, `retained_memory` and `stack_room` are about the conditions of a measurement.

The comparison of whole orders is in `upscale_opt.comparing.order_checks`.
"""
