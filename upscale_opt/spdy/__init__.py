"""SPDY (Frantar and Alistarh, ICML 2022) for input channels: chooses a sparsity per layer to reach a target speedup.

- `allocation` does everything in one call, and `results` has its result. `calibration_data` holds the images.
- `prunable_layers` lists the layers, and the number of channels that each level keeps. `layer_times` measures the
  layers.
- `reconstructions` repairs weights, by `adaprune` or `least_squares`. Both observe `layer_runs` of the dense model.
- `stitching` puts levels into a model and computes its loss. `choices` searches for the best levels.
- `outer_rounds` exports and measures a choice, and times its layers again. `outer_loop` repeats this in rounds.
- `journal` records all results of a run. `global_adaprune` tunes the chosen model.
"""
