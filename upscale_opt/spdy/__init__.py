"""SPDY (Frantar and Alistarh, ICML 2022) for input channels: a sparsity per layer that meets a target of time.

`prunable_layers` says which layers there are to choose for and how many channels a level keeps, `layer_times` measures
them, `reconstructions` repairs their weights level by level (`least_squares` exactly), `stitching` puts the levels of a
choice into a model and scores it, `global_adaprune` tunes that model as a whole, `outer_rounds` re-times its export,
and `allocation` is the whole road. `calibration_data` holds the images.
"""
