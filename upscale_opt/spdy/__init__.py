"""SPDY (Frantar and Alistarh, ICML 2022) for input channels: a sparsity per layer that meets a target of time.

`prunable_layers` says which layers there are to choose for and how many channels a level keeps, `layer_times` measures
them, `reconstructions` repairs weights (`adaprune`, `least_squares`, on `layer_runs` of the dense model), `stitching`
puts levels into a model and scores it, `choices` searches. `outer_rounds` exports, measures and times again, and
`outer_loop` does so round by round, all of it noted in a `journal`; `global_adaprune` tunes what was chosen.
`allocation` is the whole road, `results` what it leads to. `calibration_data` holds the images.
"""
